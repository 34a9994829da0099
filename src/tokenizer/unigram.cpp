#include "tokenizer/unigram.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/bpe.h"

namespace moe {
namespace {

constexpr int32_t kNone = -2;
constexpr size_t kMostBytes = std::numeric_limits<uint32_t>::max() - 1;

std::vector<std::pair<std::string_view, int32_t>> pieces_of(const UnigramModel& model,
                                                            const std::vector<std::string>& tokens) {
  std::vector<std::pair<std::string_view, int32_t>> pieces;
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (model.found_in_text[id]) pieces.emplace_back(tokens[id], static_cast<int32_t>(id));
  }
  return pieces;
}

std::array<int32_t, 256> byte_tokens(const UnigramModel& model, const std::vector<std::string>& tokens) {
  std::array<int32_t, 256> ids;
  ids.fill(-1);
  if (!model.byte_fallback) return ids;
  std::unordered_map<std::string, size_t> bytes;
  for (size_t byte = 0; byte < ids.size(); ++byte) bytes[byte_token_name(static_cast<uint8_t>(byte))] = byte;
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (const auto byte = bytes.find(tokens[id]); byte != bytes.end()) ids[byte->second] = static_cast<int32_t>(id);
  }
  return ids;
}

}  // namespace

Unigram::Unigram(UnigramModel model, const std::vector<std::string>& tokens)
    : model_(std::move(model)), trie_(pieces_of(model_, tokens)), bytes_(byte_tokens(model_, tokens)) {}

void Unigram::find_best(std::string_view text, UnigramScratch& scratch) const {
  auto& best = scratch.best;
  best.assign(text.size() + 1, {0, 0, kNone});
  const bool floats = model_.sums == ScoreSums::floats;
  // Ways of equal sums: the one found first stays.
  const auto offer = [&](size_t begin, size_t length, double score, int32_t id) {
    UnigramScratch::Best& end = best[begin + length];
    double sum = score + best[begin].score;
    if (floats) sum = static_cast<float>(sum);
    if (end.id != kNone && !(sum > end.score)) return;
    end = {sum, static_cast<uint32_t>(begin), id};
  };
  for (size_t begin = 0; begin < text.size();) {
    const std::string_view rest = text.substr(begin);
    const size_t character = std::max<size_t>(1, utf8_length(rest));
    bool known = false;
    trie_.for_each_prefix(rest, [&](size_t length, int32_t id) {
      offer(begin, length, model_.scores[static_cast<size_t>(id)], id);
      known = known || length == character;
    });
    if (!known) {
      if (model_.unknown < 0) {
        fail("{:?} has no token in this tokenizer, which has no unknown token either; remove it from the text",
             valid_utf8(rest.substr(0, character)));
      }
      offer(begin, character, model_.unknown_score, model_.unknown);
    }
    begin += character;
  }
}

void Unigram::append_unknown(std::string_view text, std::vector<int32_t>& ids) const {
  const bool whole = model_.sums == ScoreSums::doubles;  // the library looks the joined text up once more
  if (const int32_t id = whole ? trie_.find(text) : -1; id >= 0) return ids.push_back(id);
  const auto token = [&](char c) { return bytes_[static_cast<uint8_t>(c)]; };
  if (!std::all_of(text.begin(), text.end(), [&](char c) { return token(c) >= 0; })) {
    return ids.push_back(model_.unknown);
  }
  for (const char c : text) ids.push_back(token(c));
}

void Unigram::encode(std::string_view text, UnigramScratch& scratch, std::vector<int32_t>& ids) const {
  if (text.size() > kMostBytes) fail("a text of {} bytes is too long for a unigram model; cut it", text.size());
  find_best(text, scratch);
  // The way backwards, unknown neighbours joined.
  struct Part {
    uint32_t begin, end;
    int32_t id;
  };
  std::vector<Part> parts;
  for (size_t end = text.size(); end > 0; end = scratch.best[end].begin) {
    const auto& last = scratch.best[end];
    const bool joins = !parts.empty() && last.id == model_.unknown && parts.back().id == model_.unknown;
    if (joins) {
      parts.back().begin = last.begin;
    } else {
      parts.push_back({last.begin, static_cast<uint32_t>(end), last.id});
    }
  }
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (part->id != model_.unknown) {
      ids.push_back(part->id);
    } else {
      append_unknown(text.substr(part->begin, part->end - part->begin), ids);
    }
  }
}

}  // namespace moe
