#include <algorithm>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/paths.h"
#include "base/random.h"
#include "data/shard_layout.h"
#include "data/shards.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "tokenizer/gguf_tokenizer.h"

namespace moe {

using namespace shard_layout;

int64_t DatasetInfo::documents() const {
  int64_t sum = 0;
  for (const DomainTotals& domain : domains) sum += domain.documents;
  return sum;
}

int64_t DatasetInfo::tokens() const {
  int64_t sum = 0;
  for (const DomainTotals& domain : domains) sum += domain.tokens;
  return sum;
}

int64_t DatasetInfo::bytes() const {
  int64_t sum = 0;
  for (const DomainTotals& domain : domains) sum += domain.bytes;
  return sum;
}

uint64_t tokenizer_fingerprint(const fs::path& path) {
  if (is_gguf(path)) return hash_name(gguf_tokenizer_json(GgufFile(path)));  // which the dataset gets
  if (!is_folder(path)) return hash_name(read_file(path));
  if (path_exists(path / "tokenizer.json")) return hash_name(read_file(path / "tokenizer.json"));
  if (!path_exists(path / "vocab.json")) return hash_name(read_file(path / "tokenizer.model"));
  return hash_name(read_file(path / "vocab.json") + read_file(path / "merges.txt"));
}

/// The shard that is being written. Ids go to the file; the tables wait for its end.
struct DatasetWriter::Shard {
  Shard(const fs::path& path, uint32_t bytes_per_id, bool marked) : writer(path), id_bytes(bytes_per_id) {
    Header header{.magic = {}, .version = marked ? kMarkedVersion : kVersion, .id_bytes = id_bytes};
    std::memcpy(header.magic, kMagic, sizeof(header.magic));
    writer.write(&header, sizeof(header));
  }

  void pad() {
    const uint64_t zero = 0;
    writer.write(&zero, padded(writer.size()) - writer.size());
  }

  FileWriter writer;
  uint32_t id_bytes;
  std::vector<uint8_t> marks;
  std::vector<uint64_t> begins = {0};
  std::vector<uint64_t> text_bytes;
  std::vector<uint16_t> domains;
  uint64_t ids = 0;
};

DatasetWriter::DatasetWriter(const fs::path& folder, DatasetInfo info, int64_t shard_tokens)
    : folder_(folder), info_(std::move(info)), shard_tokens_(shard_tokens) {
  MOE_CHECK(info_.vocab_size > 0 && shard_tokens > 0 && info_.domains.empty());
  MOE_CHECK(info_.bos_id < info_.vocab_size && info_.eos_id < info_.vocab_size);
  const fs::path& target = folder_.target();
  if (path_exists(target) && !is_empty_folder(target)) {
    fail("{} exists already; remove it or choose another folder", target.string());
  }
}

DatasetWriter::~DatasetWriter() = default;

int32_t DatasetWriter::add_domain(const std::string& name) {
  for (size_t i = 0; i < info_.domains.size(); ++i) {
    if (info_.domains[i].name == name) return static_cast<int32_t>(i);
  }
  if (info_.domains.size() > std::numeric_limits<uint16_t>::max()) {
    fail("domain {} is one too many; a dataset has at most {}; give several files one label", name,
         info_.domains.size());
  }
  info_.domains.push_back({.name = name});
  return static_cast<int32_t>(info_.domains.size() - 1);
}

void DatasetWriter::append_ids(std::span<const int32_t> ids) {
  for (const int32_t id : ids) {
    if (id >= 0 && id < info_.vocab_size) continue;
    fail("the tokenizer gave the id {}, but its vocabulary has {} ids (0 to {})", id, info_.vocab_size,
         info_.vocab_size - 1);
  }
  if (shard_->id_bytes == sizeof(uint16_t)) {
    const std::vector<uint16_t> narrow(ids.begin(), ids.end());
    shard_->writer.write(narrow.data(), narrow.size() * sizeof(uint16_t));
  } else {
    shard_->writer.write(ids.data(), ids.size_bytes());
  }
  content_.add_tokens(ids);
  shard_->ids += ids.size();
}

void DatasetWriter::begin_document(bool marked) {
  if (!marked_) marked_ = marked;
  MOE_CHECK(*marked_ == marked);
  if (shard_) return;
  shard_files_.push_back(fmt::format("tokens-{:05}.bin", shard_files_.size()));
  shard_ = std::make_unique<Shard>(folder_.path() / shard_files_.back(), id_bytes_of(info_.vocab_size), marked);
}

void DatasetWriter::add_marked(std::span<const int32_t> ids, std::span<const uint8_t> marks, int32_t domain,
                               int64_t text_bytes, int64_t scored_bytes) {
  MOE_CHECK(ids.size() == marks.size());
  begin_document(true);
  append_ids(ids);
  shard_->marks.insert(shard_->marks.end(), marks.begin(), marks.end());
  content_.add_marks(marks);
  end_document(domain, text_bytes, scored_bytes);
}

void DatasetWriter::add_document(std::span<const int32_t> text_tokens, int32_t domain, int64_t text_bytes,
                                 int64_t scored_bytes) {
  begin_document(false);
  const auto append_special = [&](int32_t id) {
    if (id >= 0) append_ids({&id, 1});
  };
  append_special(info_.bos_id);
  append_ids(text_tokens);
  append_special(info_.eos_id);
  end_document(domain, text_bytes, scored_bytes < 0 ? text_bytes : scored_bytes);
}

void DatasetWriter::end_document(int32_t domain, int64_t text_bytes, int64_t scored_bytes) {
  content_.end_document();
  DomainTotals& totals = info_.domains.at(static_cast<size_t>(domain));
  ++totals.documents;
  totals.tokens += static_cast<int64_t>(shard_->ids - shard_->begins.back());
  totals.bytes += text_bytes;
  shard_->begins.push_back(shard_->ids);
  shard_->text_bytes.push_back(static_cast<uint64_t>(scored_bytes));
  shard_->domains.push_back(static_cast<uint16_t>(domain));
  if (shard_->ids >= static_cast<uint64_t>(shard_tokens_)) close_shard();
}

void DatasetWriter::close_shard() {
  Shard& shard = *shard_;
  shard.pad();
  shard.writer.write(shard.marks.data(), shard.marks.size());
  shard.pad();
  shard.writer.write(shard.begins.data(), shard.begins.size() * sizeof(uint64_t));
  shard.writer.write(shard.text_bytes.data(), shard.text_bytes.size() * sizeof(uint64_t));
  shard.writer.write(shard.domains.data(), shard.domains.size() * sizeof(uint16_t));
  shard.pad();
  Trailer trailer{.documents = shard.domains.size(),
                  .ids = shard.ids,
                  .tokenizer_fingerprint = info_.tokenizer_fingerprint,
                  .magic = {}};
  std::memcpy(trailer.magic, kMagic, sizeof(trailer.magic));
  shard.writer.write(&trailer, sizeof(trailer));
  shard.writer.commit();
  shard_.reset();
}

void DatasetWriter::finish() {
  if (shard_) close_shard();
  nlohmann::ordered_json description = {{"format", "moe dataset"},
                                        {"version", kDatasetVersion},
                                        {"vocab_size", info_.vocab_size},
                                        {"bos_id", info_.bos_id},
                                        {"eos_id", info_.eos_id},
                                        {"tokenizer_fingerprint", fingerprint_text(info_.tokenizer_fingerprint)},
                                        {"content_fingerprint", fingerprint_text(content_.value())},
                                        {"documents", info_.documents()},
                                        {"tokens", info_.tokens()},
                                        {"bytes", info_.bytes()},
                                        {"domains", nlohmann::ordered_json::array()},
                                        {"shards", shard_files_}};
  if (info_.base_fingerprint != 0) {
    description["base_tokenizer"] = {{"fingerprint", fingerprint_text(info_.base_fingerprint)},
                                     {"ids", info_.base_ids}};
  }
  if (!info_.answer_ends.empty()) description["answer_ends"] = info_.answer_ends;
  if (info_.pairs) description["pairs"] = true;
  for (const DomainTotals& domain : info_.domains) {
    description["domains"].push_back(
        {{"name", domain.name}, {"documents", domain.documents}, {"tokens", domain.tokens}, {"bytes", domain.bytes}});
  }
  write_file(folder_.path() / kDescription, json_text(description, 2) + "\n");
  folder_.commit();
}

}  // namespace moe
