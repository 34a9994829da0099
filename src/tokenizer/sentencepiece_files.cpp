// A tokenizer.model as this program's BPE or unigram model.

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "formats/json.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/side_files.h"
#include "tokenizer/token_passes.h"
#include "tokenizer/tokenizer_files.h"

namespace moe {
namespace {

using Kind = SentencePieceModel::Kind;

constexpr int64_t kUnigram = 1, kBpe = 2;  // SentencePieceModel::model_type

void check_supported(const SentencePieceModel& model, const std::string& name) {
  constexpr const char* kAdvice = "make a tokenizer.json of it with transformers";
  if (model.model_type != kUnigram && model.model_type != kBpe) {
    fail("{}: the model is one of words or characters, expected BPE or unigram", name);
  }
  if (model.model_type == kBpe && !model.byte_fallback) {
    fail("{}: the BPE model has no byte fallback, so some texts have no ids", name);
  }
  if (!model.escape_whitespaces || model.blank_at_end) {
    fail("{}: its treatment of blanks is not supported (escape_whitespaces off or treat_whitespace_as_suffix); {}",
         name, kAdvice);
  }
  for (const auto& piece : model.pieces) {
    if (piece.kind != Kind::user_defined && piece.kind != Kind::unused) continue;
    fail("{}: the piece \"{}\" is {}, which is not supported; {}", name, piece.text,
         piece.kind == Kind::unused ? "unused" : "user-defined", kAdvice);
  }
}

UnigramModel unigram_of(const SentencePieceModel& model, const std::string& name) {
  UnigramModel unigram{.byte_fallback = model.byte_fallback, .sums = ScoreSums::floats};
  float least = std::numeric_limits<float>::max();
  for (const auto& piece : model.pieces) {
    if (!std::isfinite(piece.score)) fail("{}: the score of \"{}\" is not a finite number", name, piece.text);
    if (piece.kind == Kind::unknown) unigram.unknown = static_cast<int32_t>(&piece - model.pieces.data());
    unigram.scores.push_back(piece.score);
    unigram.found_in_text.push_back(piece.kind == Kind::normal);
    if (piece.kind == Kind::normal) least = std::min(least, piece.score);
  }
  if (unigram.unknown < 0) fail("{}: no piece is the unknown one, expected one", name);
  unigram.unknown_score = least - static_cast<float>(kUnknownPenalty);
  return unigram;
}

std::optional<int32_t> role(int64_t id, const SentencePieceModel& model) {
  if (id < 0 || static_cast<size_t>(id) >= model.pieces.size()) return std::nullopt;
  return static_cast<int32_t>(id);
}

}  // namespace

std::vector<Merge> sentencepiece_merges(const std::vector<SentencePieceModel::Piece>& pieces) {
  std::unordered_map<std::string_view, int32_t> ids;
  std::vector<int32_t> results;
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (pieces[id].kind != Kind::normal) continue;
    ids.emplace(pieces[id].text, static_cast<int32_t>(id));
    results.push_back(static_cast<int32_t>(id));
  }
  const auto score = [&](int32_t id) { return pieces[static_cast<size_t>(id)].score; };
  std::stable_sort(results.begin(), results.end(), [&](int32_t a, int32_t b) { return score(a) > score(b); });
  std::vector<Merge> merges;
  for (const int32_t result : results) {
    const std::string_view text = pieces[static_cast<size_t>(result)].text;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const auto left = ids.find(text.substr(0, cut)), right = ids.find(text.substr(cut));
      if (left != ids.end() && right != ids.end()) merges.push_back({left->second, right->second, result});
    }
  }
  return merges;
}

TokenizerFiles parse_sentencepiece_files(std::string bytes, const SideFiles& side, const std::string& name) {
  const SentencePieceModel model = parse_sentencepiece(bytes, name);
  check_supported(model, name);
  TokenizerFiles files;
  files.contents.emplace_back("tokenizer.model", std::move(bytes));
  files.model.alphabet = Alphabet::characters;
  if (model.model_type == kUnigram) {
    files.unigram = unigram_of(model, name);
  } else {
    files.model.rank_by_result = true;
    files.model.merges = sentencepiece_merges(model.pieces);
  }
  std::unordered_set<std::string_view> seen;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& piece = model.pieces[id];
    if (piece.text.empty()) fail("{}: piece {} is empty", name, id);
    if (!seen.insert(piece.text).second) fail("{}: the piece \"{}\" occurs twice", name, piece.text);
    files.model.tokens.push_back(piece.text);
    if (piece.kind != Kind::control && piece.kind != Kind::unknown) continue;
    files.added.push_back({.id = static_cast<int32_t>(id), .content = piece.text, .special = true});
  }
  for (int byte = 0; model.byte_fallback && byte < 256; ++byte) {
    if (seen.contains(byte_token_name(static_cast<uint8_t>(byte)))) continue;
    fail("{}: byte 0x{:02X} has no token of its own; only vocabularies with all bytes are supported", name, byte);
  }
  SentencePieceText text{.prefix = model.add_dummy_prefix, .single_blanks = model.remove_extra_whitespaces};
  if (!model.character_map.empty()) text.map = std::make_shared<const CharacterMap>(model.character_map, name);
  files.normalizer = Normalizer::of_sentencepiece(std::move(text));
  files.decodes_marks = true;
  files.strips_blank = model.add_dummy_prefix;
  apply_side_files(side, fs::path(name).parent_path().string(), files);
  check_added_tokens(files, name);
  if (!files.bos) files.bos = role(model.bos, model);
  if (!files.eos) files.eos = role(model.eos, model);
  if (!files.pad) files.pad = role(model.pad, model);
  // Where nothing says otherwise, BOS precedes a text in a BPE model, as in transformers' class for these.
  const Json config = side.config.empty() ? Json::object() : parse_json(side.config, "tokenizer_config.json");
  const bool silent = json_find(config, "add_bos_token", "tokenizer_config.json") == nullptr;
  if (silent && !files.unigram && files.bos && files.prefix.empty()) files.prefix.push_back(*files.bos);
  return files;
}

}  // namespace moe
