#include "data/reader.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include <simdjson.h>

#include "base/error.h"
#include "base/paths.h"
#include "data/json_values.h"
#include "data/text_window.h"
#include "formats/json.h"

namespace moe {
namespace {

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

std::string field_names(const Json& object) {
  std::vector<std::string> names;
  for (const auto& [name, value] : object.items()) names.push_back(fmt::format("\"{}\"", name));
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

std::string_view kind_of(const Json& value) {
  if (value.is_null()) return "null";
  if (value.is_boolean()) return "true or false";
  return value.is_array() ? "a list" : "a number";
}

using RawFunction = std::function<void(RawDocument, uint64_t)>;

std::string name_of(const fs::path& path) { return path == kStandardInput ? "standard input" : path.string(); }

RawDocument json_document(std::string_view value, const std::string& name, int64_t line) {
  std::string bytes;
  bytes.reserve(value.size() + simdjson::SIMDJSON_PADDING);  // without this the parser would copy the value once more
  bytes = value;
  return {.bytes = std::move(bytes), .is_json = true, .where = fmt::format("{}:{}", name, line)};
}

RawDocument unreadable(const std::string& name, std::string error) {
  return {.bytes = {}, .is_json = false, .where = name, .error = std::move(error)};
}

// Takes everything up to the end of the line, in pieces. Returns false at the end of the file.
bool skip_line(TextWindow& window) {
  for (;;) {
    const size_t end = window.text().find('\n');
    if (end != std::string_view::npos) {
      window.take(end + 1);
      return true;
    }
    window.take(window.text().size());
    if (!window.extend()) return false;
  }
}

void read_json_lines(TextWindow& window, const RawFunction& function) {
  const std::string& name = window.name();
  size_t searched = 0;
  for (int64_t line_number = 1;;) {
    const size_t end = window.text().find('\n', searched);
    if (std::min(end, window.text().size()) > kMaxLineBytes) {
      function(unreadable(name, fmt::format("{}:{}: this line has more than {} MiB, expected one document a line; "
                                            "split the document or the file",
                                            name, line_number, kMaxLineBytes >> 20)),
               window.consumed());
      if (!skip_line(window)) return;
      searched = 0;
      ++line_number;
      continue;
    }
    if (end == std::string_view::npos) {
      searched = window.text().size();
      if (window.extend()) continue;
      if (!window.damage().empty()) return;  // the line is not whole
    }
    const std::string_view line = window.text().substr(0, end);
    if (!is_blank(line)) function(json_document(line, name, line_number), window.consumed());
    if (end == std::string_view::npos) return;
    window.take(end + 1);
    searched = 0;
    ++line_number;
  }
}

void read_json(TextWindow& window, const RawFunction& function) {
  for_each_json_value(window, [&](const JsonPart& part) {
    function(part.mistake.empty() ? json_document(part.value, window.name(), part.line)
                                  : unreadable(window.name(), part.mistake),
             window.consumed());
  });
}

// Where a piece of a long text ends, by the rule in the header.
size_t cut_of(std::string_view text) {
  const std::string_view piece = text.substr(0, kTextPieceBytes);
  for (const std::string_view blank_line : {"\n\n", "\n\r\n"}) {
    if (const size_t at = piece.rfind(blank_line); at != std::string_view::npos) return at + blank_line.size();
  }
  if (const size_t at = piece.rfind('\n'); at != std::string_view::npos) return at + 1;
  // A character has at most four bytes; all except the first have the form 10xxxxxx.
  for (size_t end = kTextPieceBytes; end > kTextPieceBytes - 4; --end) {
    if ((static_cast<unsigned char>(text[end]) & 0xC0) != 0x80) return end;
  }
  return kTextPieceBytes;
}

void read_text(TextWindow& window, const RawFunction& function) {
  for (;;) {
    while (window.text().size() <= kTextPieceBytes && window.extend()) {}
    const std::string_view text = window.text();
    if (text.empty()) return;
    if (text.size() <= kTextPieceBytes && !window.damage().empty()) return;  // the piece is not whole
    const size_t size = text.size() <= kTextPieceBytes ? text.size() : cut_of(text);
    function({.bytes = std::string(text.substr(0, size)), .is_json = false, .where = window.name()}, window.consumed());
    window.take(size);
  }
}

// Standard input has no name that tells its kind.
bool begins_with_an_object(TextWindow& window) {
  for (;;) {
    const size_t at = window.text().find_first_not_of(" \t\r\n");
    if (at != std::string_view::npos) return window.text()[at] == '{';
    if (!window.extend()) return false;
  }
}

// The file's name without .gz or .zst.
fs::path uncompressed_name(const fs::path& path) {
  const fs::path name = path.filename();
  return name.extension() == ".gz" || name.extension() == ".zst" ? name.stem() : name;
}

}  // namespace

DocumentFormat format_of(const fs::path& path) {
  static const std::set<std::string, std::less<>> text_endings = {
      ".txt",  ".md",   ".markdown", ".rst", ".org", ".tex", ".bib",   ".html", ".htm",  ".xml",   ".css",   ".scss",
      ".c",    ".h",    ".cc",       ".hh",  ".cpp", ".hpp", ".cxx",   ".hxx",  ".cu",   ".cuh",   ".m",     ".mm",
      ".py",   ".pyi",  ".js",       ".mjs", ".jsx", ".ts",  ".tsx",   ".vue",  ".java", ".kt",    ".kts",   ".scala",
      ".go",   ".rs",   ".swift",    ".rb",  ".php", ".pl",  ".pm",    ".lua",  ".r",    ".R",     ".jl",    ".sh",
      ".bash", ".zsh",  ".fish",     ".ps1", ".bat", ".sql", ".hs",    ".ml",   ".mli",  ".fs",    ".cs",    ".vb",
      ".dart", ".ex",   ".exs",      ".erl", ".clj", ".el",  ".lisp",  ".scm",  ".f",    ".for",   ".f90",   ".f95",
      ".asm",  ".s",    ".S",        ".v",   ".sv",  ".vhd", ".zig",   ".nim",  ".d",    ".proto", ".cmake", ".mk",
      ".toml", ".yaml", ".yml",      ".ini", ".cfg", ".tcl", ".groovy"};
  static const std::set<std::string, std::less<>> text_names = {"Makefile", "Dockerfile", "README", "LICENSE",
                                                                "CHANGELOG"};
  const fs::path name = uncompressed_name(path);
  const std::string ending = name.extension().string();
  if (ending == ".jsonl" || ending == ".ndjson") return DocumentFormat::json_lines;
  if (ending == ".json") return DocumentFormat::json;
  if (text_endings.contains(ending) || text_names.contains(name.string())) return DocumentFormat::text;
  return DocumentFormat::unknown;
}

void check_document_file(const fs::path& path) {
  if (path == kStandardInput) return;
  if (uncompressed_name(path).extension() == ".parquet") {
    fail_usage(
        "{} is Parquet, which is not read; convert it first: python3 -c \"import pandas, sys; "
        "pandas.read_parquet(sys.argv[1]).to_json(sys.argv[2], orient='records', lines=True, force_ascii=False)\" {} "
        "{}",
        path.string(), path.string(), fs::path(path).replace_extension(".jsonl").string());
  }
  if (format_of(path) == DocumentFormat::unknown) {
    fail_usage(
        "{}: cannot tell from its name how to read it, expected .jsonl, .json, .txt, .md or a program's source, plain "
        "or "
        "followed by .gz or .zst",
        path.string());
  }
  check_readable(path);
}

namespace {

/// Parsers with their buffers, for documents to come. Threads: any. A thread_local parser would register its destructor
/// with the C library, which ends the program where there is no memory for that.
class Parsers {
 public:
  using Parser = std::unique_ptr<simdjson::dom::parser>;

  Parser take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<simdjson::dom::parser>();
    Parser parser = std::move(free_.back());
    free_.pop_back();
    return parser;
  }
  void give_back(Parser parser) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(parser));
  }

 private:
  std::mutex mutex_;
  std::vector<Parser> free_;
};

/// Member `field` of an object, if it is a string. Nothing if anything is unusual; then the slower parser below
/// decides.
std::optional<std::string> text_quickly(const std::string& value, const std::string& field) {
  static Parsers parsers;
  Parsers::Parser parser = parsers.take();
  simdjson::dom::object object;
  // A parser that lacked memory once believes at the next document that it has it, so one that failed is not kept.
  if (parser->parse(value).get(object) != simdjson::SUCCESS) return std::nullopt;
  std::optional<std::string> text;
  for (const auto& [name, member] : object) {
    std::string_view string;
    if (name != field) continue;
    // If a name occurs twice, the last one counts.
    if (member.get(string) != simdjson::SUCCESS) return std::nullopt;
    text = string;
  }
  parsers.give_back(std::move(parser));
  return text;
}

}  // namespace

std::string RawDocument::text(const std::string& field) const {
  if (!error.empty()) throw Error(error);
  if (!is_json) return bytes;
  if (auto quick = text_quickly(bytes, field)) return std::move(*quick);
  Json value;
  if (const auto mistake = find_json_mistake(bytes, value)) {
    fail("{}: this line is not valid JSON (near its byte {}: {}), expected an object with a field {:?}", where,
         mistake->byte + 1, mistake->reason, field);
  }
  if (value.is_string()) return std::move(value.get_ref<std::string&>());
  if (!value.is_object()) {
    fail("{}: this is not a JSON object but {}, expected an object with a field {:?}", where, kind_of(value), field);
  }
  const auto text = value.find(field);
  if (text == value.end()) {
    fail("{}: this object has no field {:?} (its fields: {}); name the one that holds the document with --field", where,
         field, field_names(value));
  }
  if (!text->is_string()) fail("{}: the field {:?} is {}, expected a string", where, field, text->type_name());
  return std::move(text->get_ref<std::string&>());
}

void for_each_raw_document(const fs::path& path, const RawFunction& function) {
  check_document_file(path);
  TextWindow window(path, name_of(path));
  DocumentFormat format = format_of(path);
  if (path == kStandardInput) {
    format = begins_with_an_object(window) ? DocumentFormat::json_lines : DocumentFormat::text;
  }
  if (format == DocumentFormat::json_lines) {
    read_json_lines(window, function);
  } else if (format == DocumentFormat::json) {
    read_json(window, function);
  } else {
    read_text(window, function);
  }
  if (!window.damage().empty()) function(unreadable(window.name(), window.damage()), window.consumed());
}

void for_each_document(const fs::path& path, const DocumentFunction& function, const ReadOptions& options) {
  for_each_raw_document(path, [&](const RawDocument& document, uint64_t bytes_read) {
    std::string text;
    try {
      text = document.text(options.field);
    } catch (const Error& error) {
      if (!options.on_bad_document) throw;
      return options.on_bad_document(error.what());
    }
    if (!text.empty()) return function(text, bytes_read);
    if (options.on_empty_document) options.on_empty_document(document.where);
  });
}

std::string domain_of(const fs::path& path) {
  if (path == kStandardInput) return "stdin";
  static const std::set<std::string> splits = {"train", "valid", "validation", "test", "dev", "eval"};
  const std::string stem = uncompressed_name(path).stem().string();
  std::error_code no_folder;  // the current folder of the process may not exist any more
  const std::string folder = fs::absolute(path, no_folder).lexically_normal().parent_path().filename().string();
  return splits.count(stem) != 0 && !folder.empty() ? folder : stem;
}

}  // namespace moe
