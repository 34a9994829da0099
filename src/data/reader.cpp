#include "data/reader.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <simdjson.h>

#include "base/error.h"
#include "formats/compression.h"

namespace moe {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// A window over the stream: bytes behind those taken, extended on demand.
class Window {
 public:
  explicit Window(const fs::path& path) : stream_(open_stream(path)) {
    while (text().size() < kByteOrderMark.size() && extend()) {}
    if (text().starts_with(kByteOrderMark)) take(kByteOrderMark.size());
  }

  std::string_view text() const { return {buffer_.data() + begin_, end_ - begin_}; }
  void take(size_t bytes) { begin_ += bytes; }

  // Reads more behind the window's end; false at the end of the stream. Pointers into text() become invalid.
  bool extend() {
    if (begin_ > 0) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    if (end_ == buffer_.size()) buffer_.resize(std::max(kReadBytes, 2 * buffer_.size()));
    const size_t count = stream_->read(buffer_.data() + end_, std::min(kReadBytes, buffer_.size() - end_));
    end_ += count;
    return count > 0;
  }
  uint64_t consumed() const { return stream_->consumed(); }

 private:
  static constexpr size_t kReadBytes = size_t{256} << 10;

  std::unique_ptr<ByteStream> stream_;
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

std::string field_names(const nlohmann::json& object) {
  std::vector<std::string> names;
  for (const auto& [name, value] : object.items()) names.push_back(fmt::format("\"{}\"", name));
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

// The parser's message without its prefix and without the text it had read, which may be a whole document.
std::string_view cause_of(std::string_view message) {
  if (const size_t dash = message.find(" - "); dash != std::string_view::npos) message.remove_prefix(dash + 3);
  return message.substr(0, message.find("; last read"));
}

using RawFunction = std::function<void(RawDocument, uint64_t)>;

void read_json_lines(const fs::path& path, const RawFunction& function) {
  Window window(path);
  size_t searched = 0;
  for (int64_t line_number = 1;;) {
    const size_t end = window.text().find('\n', searched);
    if (end == std::string_view::npos) {
      searched = window.text().size();
      if (searched > kMaxLineBytes) {
        fail("{}:{}: this line has more than {} MiB, expected one document a line; split the document or the file",
             path.string(), line_number, kMaxLineBytes >> 20);
      }
      if (window.extend()) continue;
    }
    const std::string_view line = window.text().substr(0, end);
    if (!is_blank(line)) {
      std::string bytes;
      bytes.reserve(line.size() + simdjson::SIMDJSON_PADDING);  // or the parser would copy the line once more
      bytes = line;
      function({.bytes = std::move(bytes), .is_json = true, .where = fmt::format("{}:{}", path.string(), line_number)},
               window.consumed());
    }
    if (end == std::string_view::npos) return;
    window.take(end + 1);
    searched = 0;
    ++line_number;
  }
}

// Where a piece of a long text ends: the header's rule.
size_t cut_of(std::string_view text) {
  const std::string_view piece = text.substr(0, kTextPieceBytes);
  for (const std::string_view blank_line : {"\n\n", "\n\r\n"}) {
    if (const size_t at = piece.rfind(blank_line); at != std::string_view::npos) return at + blank_line.size();
  }
  if (const size_t at = piece.rfind('\n'); at != std::string_view::npos) return at + 1;
  // A character has at most four bytes, all but the first of the form 10xxxxxx.
  for (size_t end = kTextPieceBytes; end > kTextPieceBytes - 4; --end) {
    if ((static_cast<unsigned char>(text[end]) & 0xC0) != 0x80) return end;
  }
  return kTextPieceBytes;
}

void read_text(const fs::path& path, const RawFunction& function) {
  Window window(path);
  for (;;) {
    while (window.text().size() <= kTextPieceBytes && window.extend()) {}
    const std::string_view text = window.text();
    if (text.empty()) return;
    const size_t size = text.size() <= kTextPieceBytes ? text.size() : cut_of(text);
    function({.bytes = std::string(text.substr(0, size)), .is_json = false, .where = path.string()}, window.consumed());
    window.take(size);
  }
}

// The file's name without .gz or .zst.
fs::path uncompressed_name(const fs::path& path) {
  const fs::path name = path.filename();
  return name.extension() == ".gz" || name.extension() == ".zst" ? name.stem() : name;
}

}  // namespace

void check_document_file(const fs::path& path) {
  const std::string ending = uncompressed_name(path).extension().string();
  if (ending == ".txt" || ending == ".jsonl") return;
  fail_usage("{}: cannot tell from its name how to read it, expected .txt or .jsonl, plain or followed by .gz or .zst",
             path.string());
}

namespace {

/// The field "text" of a line that is an object with such a string; nothing where anything is unusual, which the slower
/// parser below then judges.
std::optional<std::string> text_quickly(const std::string& line) {
  thread_local simdjson::dom::parser parser;
  simdjson::dom::object object;
  if (parser.parse(line).get(object) != simdjson::SUCCESS) return std::nullopt;
  std::optional<std::string> text;
  for (const auto& [name, value] : object) {
    std::string_view string;
    if (name != "text") continue;
    // Of a name that occurs twice the last one counts.
    if (value.get(string) != simdjson::SUCCESS) return std::nullopt;
    text = string;
  }
  return text;
}

}  // namespace

std::string RawDocument::text() const {
  if (!is_json) return bytes;
  if (auto quick = text_quickly(bytes)) return std::move(*quick);
  nlohmann::json object;
  try {
    object = nlohmann::json::parse(bytes);
  } catch (const nlohmann::json::parse_error& error) {
    fail("{}: this line is not valid JSON (near its byte {}: {}), expected an object with a field \"text\"", where,
         error.byte, cause_of(error.what()));
  }
  if (!object.is_object()) fail("{}: this line is no JSON object, expected one with a field \"text\"", where);
  const auto text = object.find("text");
  if (text == object.end()) {
    fail("{}: this object has no field \"text\" (its fields: {}); rename the one that holds the document", where,
         field_names(object));
  }
  if (!text->is_string()) fail("{}: the field \"text\" is no string but {}", where, text->type_name());
  return std::move(text->get_ref<std::string&>());
}

void for_each_raw_document(const fs::path& path, const RawFunction& function) {
  check_document_file(path);
  if (uncompressed_name(path).extension() == ".jsonl") {
    read_json_lines(path, function);
  } else {
    read_text(path, function);
  }
}

void for_each_document(const fs::path& path, const DocumentFunction& function) {
  for_each_raw_document(path, [&](const RawDocument& document, uint64_t bytes_read) {
    const std::string text = document.text();
    if (!text.empty()) function(text, bytes_read);
  });
}

std::string domain_of(const fs::path& path) {
  static const std::set<std::string> splits = {"train", "valid", "validation", "test", "dev", "eval"};
  const std::string stem = uncompressed_name(path).stem().string();
  const std::string folder = fs::absolute(path).lexically_normal().parent_path().filename().string();
  return splits.count(stem) != 0 && !folder.empty() ? folder : stem;
}

}  // namespace moe
