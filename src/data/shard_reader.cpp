#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/error.h"
#include "data/shard_layout.h"
#include "data/shards.h"
#include "formats/json.h"

namespace moe {

using namespace shard_layout;

namespace {

template <class T>
const T* part_at(std::span<const std::byte> bytes, uint64_t offset) {
  return reinterpret_cast<const T*>(bytes.data() + offset);
}

// Copies ids and returns the largest one.
template <class Id>
uint32_t widen(const std::byte* ids, int64_t count, int32_t* out) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    Id id;
    std::memcpy(&id, ids + static_cast<size_t>(i) * sizeof(Id), sizeof(Id));
    largest = std::max<uint32_t>(largest, id);
    out[i] = static_cast<int32_t>(id);
  }
  return largest;
}

}  // namespace

/// One mapped shard; pointers into the mapping.
struct Dataset::Shard {
  Shard(const fs::path& path, const DatasetInfo& info) : file(path) {
    const auto bytes = file.bytes();
    const std::string name = path.string();
    Header header{};
    Trailer trailer{};
    if (bytes.size() >= sizeof(header) + sizeof(trailer)) {
      std::memcpy(&header, bytes.data(), sizeof(header));
      std::memcpy(&trailer, bytes.data() + bytes.size() - sizeof(trailer), sizeof(trailer));
    }
    if (std::memcmp(header.magic, kMagic, 8) != 0)
      fail("{} is no token shard of this program; make the dataset again", name);
    if (header.version != kVersion) {
      fail("{} has format version {}, expected {}; make the dataset again with this program", name, header.version,
           kVersion);
    }
    id_bytes = header.id_bytes;
    documents = static_cast<int64_t>(trailer.documents);
    // Bounds before products, so that no damaged count overflows them.
    const bool plausible = std::memcmp(trailer.magic, kMagic, 8) == 0 && trailer.documents < bytes.size() &&
                           trailer.ids < bytes.size() && id_bytes == id_bytes_of(info.vocab_size);
    const uint64_t begins_at = sizeof(header) + padded(trailer.ids * id_bytes);
    const uint64_t text_bytes_at = begins_at + (trailer.documents + 1) * sizeof(uint64_t);
    const uint64_t domains_at = text_bytes_at + trailer.documents * sizeof(uint64_t);
    const uint64_t end = domains_at + padded(trailer.documents * sizeof(uint16_t)) + sizeof(trailer);
    if (!plausible || end != bytes.size()) fail("{} is cut short or damaged; make the dataset again", name);
    if (trailer.tokenizer_fingerprint != info.tokenizer_fingerprint) {
      fail("{} was made with another tokenizer than {} says; make the dataset again", name, kDescription);
    }
    ids = bytes.data() + sizeof(header);
    begins = part_at<uint64_t>(bytes, begins_at);
    text_bytes = part_at<uint64_t>(bytes, text_bytes_at);
    domains = part_at<uint16_t>(bytes, domains_at);
    check_tables(trailer.ids, info.domains.size());
  }

  void check_tables(uint64_t id_count, size_t domain_count) const {
    bool valid = begins[0] == 0 && begins[documents] == id_count;
    for (int64_t i = 0; valid && i < documents; ++i) {
      valid = begins[i] <= begins[i + 1] && domains[i] < domain_count;
    }
    if (!valid)
      fail("{} is damaged: its table of documents is inconsistent; make the dataset again", file.path().string());
  }

  MappedFile file;
  uint32_t id_bytes = 0;
  int64_t documents = 0;
  const std::byte* ids = nullptr;
  const uint64_t* begins = nullptr;
  const uint64_t* text_bytes = nullptr;
  const uint16_t* domains = nullptr;
};

namespace {

uint64_t read_fingerprint(const Json& description, const std::string& where) {
  const std::string digits = json_string(description, "tokenizer_fingerprint", where);
  uint64_t fingerprint = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), fingerprint, 16);
  if (error != std::errc() || end != digits.data() + digits.size()) {
    fail("{} is damaged: tokenizer_fingerprint is \"{}\", expected 16 hexadecimal digits", where, digits);
  }
  return fingerprint;
}

DatasetInfo info_of(const Json& description, const std::string& where) {
  DatasetInfo info;
  info.vocab_size = json_int(description, "vocab_size", where);
  info.bos_id = static_cast<int32_t>(json_int(description, "bos_id", where));
  info.eos_id = static_cast<int32_t>(json_int(description, "eos_id", where));
  info.tokenizer_fingerprint = read_fingerprint(description, where);
  for (const Json& domain : json_array(description, "domains", where)) {
    info.domains.push_back({.name = json_string(domain, "name", where),
                            .documents = json_int(domain, "documents", where),
                            .tokens = json_int(domain, "tokens", where),
                            .bytes = json_int(domain, "bytes", where)});
  }
  return info;
}

}  // namespace

Dataset::Dataset(const fs::path& folder) : folder_(folder) {
  const fs::path path = folder / kDescription;
  if (!fs::exists(path)) {
    fail("{} is no dataset: it has no {}; make one with `moe data --out {} ...`", folder.string(), kDescription,
         folder.string());
  }
  const std::string where = path.string();
  const Json description = read_json(path);
  if (const int64_t version = json_int(description, "version", where); version != kDatasetVersion) {
    fail("{} has format version {}, expected {}; make the dataset again with this program", where, version,
         kDatasetVersion);
  }
  info_ = info_of(description, where);
  for (const DomainTotals& domain : info_.domains) domain_names_.push_back(domain.name);
  for (const Json& file : json_array(description, "shards", where)) {
    if (!file.is_string()) fail("{} is damaged: \"shards\" holds {}, expected file names", where, json_kind(file));
    shards_.push_back(std::make_unique<Shard>(folder / file.get<std::string>(), info_));
    first_document_.push_back(first_document_.back() + shards_.back()->documents);
  }
  if (count() != info_.documents()) {
    fail("{} lists {} documents, but its shards hold {}; make the dataset again", where, info_.documents(), count());
  }
}

Dataset::~Dataset() = default;

std::pair<const Dataset::Shard*, int64_t> Dataset::locate(int64_t document) const {
  MOE_CHECK(document >= 0 && document < count());
  const auto after = std::upper_bound(first_document_.begin(), first_document_.end(), document);
  const auto shard = static_cast<size_t>(after - first_document_.begin() - 1);
  return {shards_[shard].get(), document - first_document_[shard]};
}

int64_t Dataset::length(int64_t document) const {
  const auto [shard, index] = locate(document);
  return static_cast<int64_t>(shard->begins[index + 1] - shard->begins[index]);
}

int32_t Dataset::domain(int64_t document) const {
  const auto [shard, index] = locate(document);
  return shard->domains[index];
}

int64_t Dataset::text_bytes(int64_t document) const {
  const auto [shard, index] = locate(document);
  return static_cast<int64_t>(shard->text_bytes[index]);
}

void Dataset::copy_tokens(int64_t document, int64_t begin, int64_t count, int32_t* out) const {
  const auto [shard, index] = locate(document);
  MOE_CHECK(begin >= 0 && count >= 0 && begin + count <= length(document));
  const uint64_t first = (shard->begins[index] + static_cast<uint64_t>(begin)) * shard->id_bytes;
  const std::byte* ids = shard->ids + first;
  const uint32_t largest = shard->id_bytes == 2 ? widen<uint16_t>(ids, count, out) : widen<uint32_t>(ids, count, out);
  if (static_cast<int64_t>(largest) >= info_.vocab_size) {
    fail("{} is damaged: it holds the id {}, but the vocabulary has {}; make the dataset again",
         shard->file.path().string(), largest, info_.vocab_size);
  }
}

}  // namespace moe
