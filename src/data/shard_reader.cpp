#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "base/error.h"
#include "base/paths.h"
#include "base/printable.h"
#include "base/random.h"
#include "base/units.h"
#include "data/shard_layout.h"
#include "data/shards.h"
#include "formats/json.h"
#include "formats/weighted_paths.h"

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
  Shard(const fs::path& path, const DatasetInfo& info, std::vector<int32_t> numbers)
      : file(path), domain_numbers(std::move(numbers)) {
    const auto bytes = file.bytes();
    const std::string name = path.string();
    Header header{};
    Trailer trailer{};
    if (bytes.size() >= sizeof(header) + sizeof(trailer)) {
      std::memcpy(&header, bytes.data(), sizeof(header));
      std::memcpy(&trailer, bytes.data() + bytes.size() - sizeof(trailer), sizeof(trailer));
    }
    if (std::memcmp(header.magic, kMagic, 8) != 0)
      fail("{} is not a token shard of this program; make the dataset again", name);
    if (header.version != kVersion && header.version != kMarkedVersion) {
      fail("{} has format version {}, expected {} or {}; make the dataset again with this program", name,
           header.version, kVersion, kMarkedVersion);
    }
    id_bytes = header.id_bytes;
    documents = static_cast<int64_t>(trailer.documents);
    // Limits are checked before products, so that a damaged count cannot overflow them.
    const bool plausible = std::memcmp(trailer.magic, kMagic, 8) == 0 && trailer.documents < bytes.size() &&
                           trailer.ids < bytes.size() && id_bytes == id_bytes_of(info.vocab_size);
    const uint64_t marks_at = sizeof(header) + padded(trailer.ids * id_bytes);
    const bool marked = header.version == kMarkedVersion;
    const uint64_t begins_at = marks_at + (marked ? padded(trailer.ids) : 0);
    const uint64_t text_bytes_at = begins_at + (trailer.documents + 1) * sizeof(uint64_t);
    const uint64_t domains_at = text_bytes_at + trailer.documents * sizeof(uint64_t);
    const uint64_t end = domains_at + padded(trailer.documents * sizeof(uint16_t)) + sizeof(trailer);
    if (!plausible || end != bytes.size()) fail("{} is cut short or damaged; make the dataset again", name);
    if (trailer.tokenizer_fingerprint != info.tokenizer_fingerprint) {
      fail("{} was made with another tokenizer than {} says; make the dataset again", name, kDescription);
    }
    ids = bytes.data() + sizeof(header);
    if (marked) marks = part_at<uint8_t>(bytes, marks_at);
    begins = part_at<uint64_t>(bytes, begins_at);
    text_bytes = part_at<uint64_t>(bytes, text_bytes_at);
    domains = part_at<uint16_t>(bytes, domains_at);
    check_tables(trailer.ids, info.domains.size());
  }

  void check_tables(uint64_t id_count, size_t domain_count) const {
    constexpr uint64_t kMostBytes = uint64_t{1} << 62;  // so that a damaged number cannot overflow the sums
    bool valid = begins[0] == 0 && begins[documents] == id_count;
    uint64_t all_bytes = 0;
    for (int64_t i = 0; valid && i < documents; ++i) {
      valid = begins[i] <= begins[i + 1] && domains[i] < domain_count && text_bytes[i] <= kMostBytes - all_bytes;
      all_bytes += text_bytes[i];
    }
    if (!valid)
      fail("{} is damaged: its table of documents is inconsistent; make the dataset again", file.path().string());
  }

  /// Adds what the tables say to the totals of its folder's domains.
  void add_to(std::vector<DomainTotals>& domains_of_folder) const {
    for (int64_t i = 0; i < documents; ++i) {
      DomainTotals& domain = domains_of_folder[domains[i]];
      ++domain.documents;
      domain.tokens += static_cast<int64_t>(begins[i + 1] - begins[i]);
      domain.bytes += static_cast<int64_t>(text_bytes[i]);
    }
  }

  MappedFile file;
  std::vector<int32_t> domain_numbers;  // by domain of the shard's folder
  uint32_t id_bytes = 0;
  int64_t documents = 0;
  const std::byte* ids = nullptr;
  const uint8_t* marks = nullptr;  // null: all tokens are learned
  const uint64_t* begins = nullptr;
  const uint64_t* text_bytes = nullptr;
  const uint16_t* domains = nullptr;
};

namespace {

DatasetInfo info_of(const Json& description, const std::string& where) {
  DatasetInfo info;
  info.vocab_size = json_int(description, "vocab_size", where);
  info.bos_id = json_int32(description, "bos_id", where);
  info.eos_id = json_int32(description, "eos_id", where);
  info.tokenizer_fingerprint = json_hexadecimal(description, "tokenizer_fingerprint", where);
  if (const Json* const base = json_find(description, "base_tokenizer", where)) {
    info.base_fingerprint = json_hexadecimal(*base, "fingerprint", where);
    info.base_ids = json_int(*base, "ids", where);
    if (info.base_ids < 1 || info.base_ids >= info.vocab_size) {
      fail("{} is damaged: base_tokenizer has {} ids, expected fewer than {}", where, info.base_ids, info.vocab_size);
    }
  }
  if (json_find(description, "answer_ends", where) != nullptr) {
    for (const Json& id : json_array(description, "answer_ends", where)) {
      const bool fits = id.is_number_integer() && id >= 0 && id < info.vocab_size;
      if (!fits) fail("{} is damaged: answer_ends holds {}, expected token ids", where, json_shown(id));
      info.answer_ends.push_back(id.get<int32_t>());
    }
  }
  info.pairs = json_bool(description, "pairs", where, false);
  for (const Json& domain : json_array(description, "domains", where)) {
    info.domains.push_back({.name = printable(json_string(domain, "name", where)),
                            .documents = json_int(domain, "documents", where),
                            .tokens = json_int(domain, "tokens", where),
                            .bytes = json_int(domain, "bytes", where)});
  }
  return info;
}

/// What a folder's description says of its domains is what its shards hold.
void check_totals(const std::vector<DomainTotals>& said, const std::vector<DomainTotals>& found,
                  const std::string& where) {
  const auto text = [](const DomainTotals& totals) {
    return fmt::format("{}, {} and {}", counted(totals.documents, "document"), counted(totals.tokens, "token"),
                       counted(totals.bytes, "byte"));
  };
  for (size_t i = 0; i < said.size(); ++i) {
    // Without BOS nothing predicts a document's first token, so its bytes are not in the shards' tables.
    if (said[i].documents == found[i].documents && said[i].tokens == found[i].tokens &&
        said[i].bytes >= found[i].bytes) {
      continue;
    }
    fail("{} says that domain {} has {}, but the shards hold {}; make the dataset again", where, said[i].name,
         text(said[i]), text(found[i]));
  }
}

}  // namespace

Dataset::Dataset(const std::string& what) {
  const std::vector<WeightedPath> paths = parse_weighted_paths(what, "data.train");
  for (const WeightedPath& path : paths) {
    const int64_t before = count(), tokens_before = info_.tokens();
    open(path.path);
    const double size = static_cast<double>(std::max<int64_t>(info_.tokens() - tokens_before, 1));
    if (!is_weighted_paths(what)) continue;
    parts_.push_back({.documents = count() - before, .weight = path.weight == 0 ? size : path.weight});
  }
}

void Dataset::open(const fs::path& folder) {
  const fs::path path = folder / kDescription;
  if (!path_exists(path)) {
    fail("{} is not a dataset: it has no {}; make one with `moe data --out {} ...`", folder.string(), kDescription,
         folder.string());
  }
  const std::string where = path.string();
  const Json description = read_json(path);
  if (const int64_t version = json_int(description, "version", where); version != kDatasetVersion) {
    fail("{} has format version {}, expected {}; make the dataset again with this program", where, version,
         kDatasetVersion);
  }
  DatasetInfo info = info_of(description, where);
  fingerprints_.emplace_back();
  if (json_find(description, "content_fingerprint", where) != nullptr) {
    fingerprints_.back() = json_hexadecimal(description, "content_fingerprint", where);
  }
  const std::vector<int32_t> domains = merge(info, folder);
  std::vector<DomainTotals> found;
  for (const DomainTotals& domain : info.domains) found.push_back({.name = domain.name});
  for (const Json& file : json_array(description, "shards", where)) {
    if (!file.is_string()) fail("{} is damaged: \"shards\" holds {}, expected file names", where, json_kind(file));
    shards_.push_back(std::make_unique<Shard>(folder / file.get<std::string>(), info, domains));
    shards_.back()->add_to(found);
    has_marks_ = has_marks_ || shards_.back()->marks != nullptr;
    first_document_.push_back(first_document_.back() + shards_.back()->documents);
  }
  check_totals(info.domains, found, where);
  folders_.push_back(folder);
}

// Adds a folder's totals to the totals of all. Returns the number that each of its domains has in all.
std::vector<int32_t> Dataset::merge(const DatasetInfo& info, const fs::path& folder) {
  if (folders_.empty()) {
    info_ = info;
    info_.domains.clear();
  } else if (info.tokenizer_fingerprint != info_.tokenizer_fingerprint || info.vocab_size != info_.vocab_size) {
    fail("{} and {} were made with different tokenizers; make both with the same one", folders_.front().string(),
         folder.string());
  } else if (info.pairs != info_.pairs) {
    fail("{} and {} are a dataset of preferences and one of documents, expected two of a kind",
         folders_.front().string(), folder.string());
  } else {
    std::vector<int32_t> ends;
    std::set_union(info_.answer_ends.begin(), info_.answer_ends.end(), info.answer_ends.begin(), info.answer_ends.end(),
                   std::back_inserter(ends));
    info_.answer_ends = std::move(ends);
  }
  std::vector<int32_t> numbers;
  for (const DomainTotals& domain : info.domains) {
    const auto found = std::find(domain_names_.begin(), domain_names_.end(), domain.name);
    const auto number = static_cast<size_t>(found - domain_names_.begin());
    numbers.push_back(static_cast<int32_t>(number));
    if (found == domain_names_.end()) {
      domain_names_.push_back(domain.name);
      info_.domains.push_back({.name = domain.name});
    }
    info_.domains[number].documents += domain.documents;
    info_.domains[number].tokens += domain.tokens;
    info_.domains[number].bytes += domain.bytes;
  }
  return numbers;
}

std::string Dataset::name() const {
  std::string text;
  for (const fs::path& folder : folders_) text += (text.empty() ? "" : ", ") + folder.string();
  return text;
}

Dataset::~Dataset() = default;

uint64_t Dataset::fingerprint() const {
  std::string text;
  int64_t first = 0;
  double weights = 0;
  for (const DataPart& part : parts_) weights += part.weight;
  for (size_t i = 0; i < fingerprints_.size(); ++i) {
    const int64_t documents = parts_.empty() ? count() : parts_[i].documents;
    const uint64_t own = fingerprints_[i] ? *fingerprints_[i] : content_of(first, documents);
    if (parts_.empty()) return own;
    text += fmt::format("{:016x} {:a}\n", own, parts_[i].weight / weights);
    first += documents;
  }
  return hash_name(text);
}

void Dataset::check_content() const {
  int64_t first = 0;
  for (size_t i = 0; i < fingerprints_.size(); ++i) {
    const int64_t documents = parts_.empty() ? count() : parts_[i].documents;
    const uint64_t found = content_of(first, documents);
    if (fingerprints_[i] && *fingerprints_[i] != found) {
      fail("{}: its tokens are not those that {} describes, so files were changed or damaged; make the dataset again",
           folders_[i].string(), kDescription);
    }
    first += documents;
  }
}

uint64_t Dataset::content_of(int64_t first, int64_t documents) const {
  ContentHash content;
  std::vector<int32_t> tokens;
  std::vector<uint8_t> marks;
  for (int64_t document = first; document < first + documents; ++document) {
    tokens.resize(static_cast<size_t>(length(document)));
    copy_tokens(document, 0, length(document), tokens.data());
    content.add_tokens(tokens);
    if (locate(document).first->marks != nullptr) {
      marks.resize(tokens.size());
      copy_marks(document, 0, length(document), marks.data());
      content.add_marks(marks);
    }
    content.end_document();
  }
  return content.value();
}

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
  return shard->domain_numbers[shard->domains[index]];
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

void Dataset::copy_marks(int64_t document, int64_t begin, int64_t count, uint8_t* out) const {
  const auto [shard, index] = locate(document);
  if (shard->marks == nullptr) return Documents::copy_marks(document, begin, count, out);
  MOE_CHECK(begin >= 0 && count >= 0 && begin + count <= length(document));
  std::copy_n(shard->marks + shard->begins[index] + static_cast<uint64_t>(begin), count, out);
}

}  // namespace moe
