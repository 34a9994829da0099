#pragma once
/// Datasets: folders of token shards that are mapped into memory, not read.
///
/// DIR/dataset.json          totals and names (see DatasetInfo), and the list of shards
/// DIR/tokens-00000.bin ...  the shards
/// DIR/tokenizer.json, tokenizer_config.json, ...  copies of the tokenizer's files, so that training needs only DIR
///
/// A shard, little-endian, each part at a multiple of 8 bytes:
///   "MOETOKEN", u32 version (1; 2 with marks), u32 bytes per id (2 or 4)
///   ids        u16 (vocabularies of up to 65536) or u32, document after document: [BOS] text [EOS]
///   marks      u8 [ids], only in version 2: 1 for a token that is learned, 0 for one that is only read (a prompt)
///   begins     u64 [documents + 1], index of each document's first id; the last is the number of ids
///   bytes      u64 [documents], UTF-8 bytes of text that targets stand for (all, where there is BOS)
///   domains    u16 [documents], index into dataset.json's "domains"
///   u64 documents, u64 ids, u64 tokenizer fingerprint, "MOETOKEN"
/// Counts stand at the end because a shard is written in one pass over an input of unknown size.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/output_path.h"
#include "data/content_hash.h"
#include "data/documents.h"
#include "data/mixture.h"

namespace moe {

struct DomainTotals {
  std::string name;
  int64_t documents = 0;
  /// with BOS and EOS
  int64_t tokens = 0;
  /// bytes of UTF-8 text
  int64_t bytes = 0;
  bool operator==(const DomainTotals&) const = default;
};

struct DatasetInfo {
  int64_t vocab_size = 0;
  /// -1: the documents have none.
  int32_t bos_id = -1;
  int32_t eos_id = -1;
  /// of the tokenizer that made the ids; 0 if unknown
  uint64_t tokenizer_fingerprint = 0;
  std::vector<DomainTotals> domains;
  /// If the tokenizer is another one with new tokens (tokenizer/new_tokens.h), the fingerprint of that one, and its
  /// number of ids, which is the first new token's id; else 0.
  uint64_t base_fingerprint = 0;
  int64_t base_ids = 0;
  /// The tokens that end learned answers, ascending; empty for texts.
  std::vector<int32_t> answer_ends = {};
  /// Documents 2 i and 2 i + 1 are a chosen and a rejected answer to one prompt.
  bool pairs = false;

  int64_t documents() const;
  int64_t tokens() const;
  int64_t bytes() const;
  bool operator==(const DatasetInfo&) const = default;
};

/// A stable 64-bit hash of the files that decide a tokenizer's ids: equal files give equal ids. `path` is a
/// tokenizer.json, a folder with one or with vocab.json and merges.txt, or a GGUF file (as a tokenizer.json).
uint64_t tokenizer_fingerprint(const fs::path& path);

/// Writes a dataset folder that is complete or absent. Everything goes to a temporary folder beside it; finish()
/// renames that folder, and without finish() it is removed. Memory holds the tables of one shard (18 bytes a document),
/// never the ids. Use a writer on one thread at a time.
class DatasetWriter {
 public:
  /// `info` has everything except the totals. `folder` must be absent or empty. A shard ends with the document that
  /// brings it to `shard_tokens` ids or more.
  DatasetWriter(const fs::path& folder, DatasetInfo info, int64_t shard_tokens = int64_t{1} << 29);
  ~DatasetWriter();
  DatasetWriter(const DatasetWriter&) = delete;
  DatasetWriter& operator=(const DatasetWriter&) = delete;

  /// The index of a domain, which may be new.
  int32_t add_domain(const std::string& name);
  /// Appends BOS, `text_tokens` and EOS as one document. Ids outside the vocabulary are refused. `scored_bytes` is the
  /// number of text bytes that the targets stand for (data/scored_text.h); if it is negative, all bytes count.
  void add_document(std::span<const int32_t> text_tokens, int32_t domain, int64_t text_bytes,
                    int64_t scored_bytes = -1);
  /// Appends a whole document, with the special tokens that it needs. `marks` [ids] say which tokens are learned.
  /// Either all documents of a dataset have marks, or none.
  void add_marked(std::span<const int32_t> ids, std::span<const uint8_t> marks, int32_t domain, int64_t text_bytes,
                  int64_t scored_bytes);
  /// The folder of the files until finish(). Write here what else belongs to the dataset.
  const fs::path& temporary_folder() const { return folder_.path(); }
  /// The totals so far.
  const DatasetInfo& info() const { return info_; }
  void set_answer_ends(std::vector<int32_t> ids) { info_.answer_ends = std::move(ids); }
  void finish();

 private:
  struct Shard;
  void begin_document(bool marked);
  void append_ids(std::span<const int32_t> ids);
  void end_document(int32_t domain, int64_t text_bytes, int64_t scored_bytes);
  void close_shard();

  FolderWriter folder_;
  DatasetInfo info_;
  int64_t shard_tokens_;
  std::optional<bool> marked_;    // unknown before the first document
  std::unique_ptr<Shard> shard_;  // must be destroyed before its folder
  std::vector<std::string> shard_files_;
  ContentHash content_;
};

/// One open dataset folder, or several as one. The constructor checks every table; its error is one sentence that names
/// the file. Several threads may read a dataset.
class Dataset : public Documents {
 public:
  /// `what` is a folder, or a list of folders (formats/weighted_paths.h); without
  /// weights, a folder's weight is its number of tokens. All must have the same
  /// tokenizer. Their documents follow each other. Folders with a domain of the same name share the domain.
  explicit Dataset(const std::string& what);
  ~Dataset() override;

  /// The folder, or the first of a list. Each folder holds the tokenizer.
  const fs::path& folder() const { return folders_.front(); }
  const std::vector<fs::path>& folders() const { return folders_; }
  /// The documents of each folder of a list, with its weight; empty for a single folder.
  const std::vector<DataPart>& parts() const { return parts_; }
  /// The folders, in words.
  std::string name() const;
  const DatasetInfo& info() const { return info_; }
  /// The fingerprint of the content (data/content_hash.h): equal for datasets that give the same batches, whatever
  /// their folders and shards are. For a list it includes the weights. It is read from dataset.json. For a folder of an
  /// older version without it, all tokens are read.
  uint64_t fingerprint() const;
  /// Reads all tokens. Throws an Error if a folder's content is not what its dataset.json describes, or if an id is
  /// outside the vocabulary.
  void check_content() const;

  int64_t count() const override { return first_document_.back(); }
  int64_t length(int64_t document) const override;
  int32_t domain(int64_t document) const override;
  int64_t text_bytes(int64_t document) const override;
  /// Refuses ids outside the vocabulary, which only a damaged file can have.
  void copy_tokens(int64_t document, int64_t begin, int64_t count, int32_t* out) const override;
  bool has_marks() const override { return has_marks_; }
  void copy_marks(int64_t document, int64_t begin, int64_t count, uint8_t* out) const override;
  const std::vector<std::string>& domain_names() const override { return domain_names_; }

 private:
  struct Shard;
  void open(const fs::path& folder);
  std::vector<int32_t> merge(const DatasetInfo& info, const fs::path& folder);
  uint64_t content_of(int64_t first, int64_t documents) const;
  std::pair<const Shard*, int64_t> locate(int64_t document) const;

  std::vector<fs::path> folders_;
  std::vector<DataPart> parts_;
  DatasetInfo info_;
  std::vector<std::optional<uint64_t>> fingerprints_;  // of the folders, as dataset.json gives them
  std::vector<std::string> domain_names_;
  std::vector<std::unique_ptr<Shard>> shards_;
  bool has_marks_ = false;
  /// Index of the first document of each shard, and one more entry for the end.
  std::vector<int64_t> first_document_ = {0};
};

}  // namespace moe
