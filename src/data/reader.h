#pragma once
/// Reads documents from text files as a stream. Memory holds one document at a time, for files of any size.
///
/// .jsonl, .ndjson: one JSON object a line, the document is its string field "text" (or another that is asked for),
///   other fields are ignored, blank lines are skipped, a line may have up to 256 MiB.
/// .json: a list of such objects or of strings, or such objects one after the other, over any lines.
/// .txt, .md and sources of programs: the file is one document; one longer than 1 MiB is cut into documents of at most
///   that, behind the last blank line of each MiB, or else behind its last line end, or else between characters. No
///   byte is lost or added.
/// "-": standard input, read as .jsonl where it begins with "{", else as .txt.
/// Each may be plain or compressed (.txt.gz, .jsonl.zst, ...) and in UTF-8 or UTF-16 (formats/utf16.h). A byte order
/// mark at the beginning is dropped, and documents without text are skipped.
///
/// What cannot be read takes its place among the documents, as an error. If a file is cut short or damaged, these are
/// the whole documents before the damage, then one error for the rest of the file.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/file.h"

namespace moe {

constexpr size_t kTextPieceBytes = size_t{1} << 20;
constexpr size_t kMaxLineBytes = size_t{256} << 20;

/// The path for standard input.
constexpr const char* kStandardInput = "-";

/// A document in the form that its file has.
struct RawDocument {
  /// The text itself, or a JSON value.
  std::string bytes;
  bool is_json = false;
  /// "FILE:LINE" of a JSON value, for errors; else FILE.
  std::string where;
  /// If it is not empty, there is no document: this sentence says what could not be read.
  std::string error = {};

  /// The document's text; "" if it has none. For a JSON object this is its member `field`. Throws `error`. Any thread
  /// may call it.
  std::string text(const std::string& field = "text") const;
};

/// Calls `function` for each document of the file, in order, without decoding it. text() decodes, so several threads
/// can share that work. Documents without text, and what cannot be read, are passed too. Throws if the file is missing
/// or its name says nothing about its kind.
void for_each_raw_document(const fs::path& path, const std::function<void(RawDocument, uint64_t bytes_read)>& function);

/// Options of for_each_document.
struct ReadOptions {
  std::string field = "text";
  /// Receives the error of a document that cannot be read; reading then continues with the next document. If it is
  /// empty, the error is thrown.
  std::function<void(const std::string& error)> on_bad_document = {};
  /// Receives the place ("FILE:LINE") of a document whose text is empty. May be empty.
  std::function<void(const std::string& where)> on_empty_document = {};
};

/// Receives the bytes of one document, which are valid during the call, and the number of bytes read so far of the file
/// on disk.
using DocumentFunction = std::function<void(std::string_view text, uint64_t bytes_read)>;

/// Calls `function` for each document of the file, in order. Errors are one sentence with file and, for JSON, line.
void for_each_document(const fs::path& path, const DocumentFunction& function, const ReadOptions& options = {});

/// The kind of a file, judged by its name.
enum class DocumentFormat { text, json_lines, json, unknown };
DocumentFormat format_of(const fs::path& path);

/// Refuses a file that is missing, not readable, or whose name is not one of the above. Reads nothing.
void check_document_file(const fs::path& path);

/// The domain of a text file without an explicit one. It is the file's name without endings, or the name of its folder
/// if the file is called train, valid, validation, test, dev or eval. "text/code/train.jsonl.zst" and "corpus/code.txt"
/// are both "code".
std::string domain_of(const fs::path& path);

}  // namespace moe
