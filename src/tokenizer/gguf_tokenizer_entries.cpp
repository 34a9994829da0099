#include "tokenizer/gguf_tokenizer_entries.h"

#include <algorithm>
#include <set>
#include <unordered_map>

#include "base/error.h"
#include "base/log.h"
#include "tokenizer/gguf_pre_tokenizers.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/tokenizer_files.h"

namespace moe {
namespace {

using Kind = SentencePieceModel::Kind;
using Piece = SentencePieceModel::Piece;

[[noreturn]] void cannot(const std::string& where, const std::string& what) {
  fail("{}: a GGUF file cannot have this tokenizer: {}", where, what);
}

/// All ids with their kinds; scores are 0.
std::vector<Piece> pieces_of(const TokenizerFiles& files, int64_t rows, const std::string& where) {
  std::vector<Piece> pieces(static_cast<size_t>(rows), Piece{.text = "", .score = 0, .kind = Kind::unused});
  const auto& tokens = files.model.tokens;
  if (static_cast<int64_t>(tokens.size()) > rows)
    cannot(where, fmt::format("it has more ids than the model's {}", rows));
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (!tokens[id].empty()) pieces[id] = {tokens[id], 0, Kind::normal};
  }
  for (const AddedToken& token : files.added) {
    if (token.id >= rows)
      cannot(where, fmt::format("{:?} has the id {}, and the model {} rows", token.content, token.id, rows));
    if (token.lstrip || token.rstrip || token.single_word) {
      cannot(where, fmt::format("{:?} takes blanks beside it or stands for whole words only", token.content));
    }
    pieces[static_cast<size_t>(token.id)] = {token.content, 0, token.special ? Kind::control : Kind::user_defined};
  }
  std::set<std::string_view> seen;
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (pieces[id].text.empty()) pieces[id].text = fmt::format("[PAD{}]", id);
    if (!seen.insert(pieces[id].text).second) cannot(where, fmt::format("two of its tokens are {:?}", pieces[id].text));
  }
  return pieces;
}

/// Whether the ids added at one side of a text are only this token.
bool adds_only(const std::vector<int32_t>& ids, std::optional<int32_t> token, const char* side,
               const std::string& where) {
  if (ids.empty()) return false;
  if (ids.size() != 1 || ids[0] != token)
    cannot(where, fmt::format("it adds the ids {} {} a text", fmt::join(ids, ", "), side));
  return true;
}

/// Scores from a list of merges. Two tokens that together spell a third always merge in such files, so every such
/// merge must be in the list.
void set_scores(const BpeModel& model, std::vector<Piece>& pieces, const std::string& where) {
  std::unordered_map<int32_t, float> scores;
  int32_t last = -1;
  for (const Merge& merge : model.merges) {
    const bool fresh = scores.emplace(merge.result, -static_cast<float>(scores.size())).second;
    if (!fresh && merge.result != last) cannot(where, "its merges are not in the order of a SentencePiece model");
    last = merge.result;
  }
  const auto before_all = -static_cast<float>(scores.size());
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (pieces[id].kind != Kind::normal) continue;
    const auto found = scores.find(static_cast<int32_t>(id));
    pieces[id].score = found == scores.end() ? before_all - static_cast<float>(id) : found->second;
  }
  const auto spelled = sentencepiece_merges(pieces);
  const auto key = [](const Merge& merge) { return std::pair(merge.left, merge.right); };
  std::set<std::pair<int32_t, int32_t>> listed;
  for (const Merge& merge : model.merges) listed.insert(key(merge));
  for (const Merge& merge : spelled) {
    if (listed.count(key(merge)) != 0) continue;
    cannot(where,
           fmt::format("{:?} and {:?} spell a token but do not merge", pieces[static_cast<size_t>(merge.left)].text,
                       pieces[static_cast<size_t>(merge.right)].text));
  }
}

GgufValue integers(const std::vector<Piece>& pieces) {
  GgufArray array{.kind = GgufKind::i32, .values = {}};
  for (const Piece& piece : pieces) array.values.push_back(GgufValue::i32(static_cast<int32_t>(piece.kind)));
  return {GgufKind::array, std::move(array)};
}
GgufValue scores(const std::vector<Piece>& pieces) {
  GgufArray array{.kind = GgufKind::f32, .values = {}};
  for (const Piece& piece : pieces) array.values.push_back(GgufValue::f32(piece.score));
  return {GgufKind::array, std::move(array)};
}
GgufValue texts(const std::vector<Piece>& pieces) {
  std::vector<std::string> texts;
  for (const Piece& piece : pieces) texts.push_back(piece.text);
  return GgufValue::texts(texts);
}
GgufValue merges_of(const BpeModel& model) {
  std::vector<std::string> texts;
  const auto token = [&](int32_t id) -> const std::string& { return model.tokens[static_cast<size_t>(id)]; };
  for (const Merge& merge : model.merges) texts.push_back(token(merge.left) + " " + token(merge.right));
  return GgufValue::texts(texts);
}

/// How llama.cpp calls the way in which this tokenizer cuts text.
std::string pre_name(const TokenizerFiles& files, const std::string& where) {
  const auto& [file, content] = files.contents.front();
  std::string buffer;
  const bool blank_before = files.pre_tokenizer.size() > 0 && files.pre_tokenizer.prepare(0, "a", buffer) != "a";
  if (blank_before) cannot(where, "it puts a blank before a text (add_prefix_space)");
  if (file == "vocab.json") return "gpt-2";
  const Json root = parse_json(content, where);
  const auto* const found =
      gguf_pre_tokenizer_of(json_member(root, "pre_tokenizer", where), files.model.ignore_merges, where);
  if (found == nullptr) {
    cannot(where,
           "llama.cpp has no name for the way in which it cuts text into words (pre_tokenizer, ignore_merges); moe "
           "tokenizer train --pattern qwen2 makes one that has");
  }
  return std::string(found->name);
}

/// Of a vocabulary of characters: kinds and scores, as SentencePiece has them.
void make_sentencepiece(const TokenizerFiles& files, std::vector<Piece>& pieces, const std::string& where) {
  const auto& [file, content] = files.contents.front();
  for (size_t byte = 0; byte < 256; ++byte) {
    const std::string name = byte_token_name(static_cast<uint8_t>(byte));
    const auto found =
        std::find_if(pieces.begin(), pieces.end(), [&](const Piece& piece) { return piece.text == name; });
    if (found != pieces.end()) found->kind = Kind::byte;
  }
  if (file == "tokenizer.model") {
    const SentencePieceModel model = parse_sentencepiece(content, where);
    for (size_t id = 0; id < model.pieces.size(); ++id) {
      if (pieces[id].text != model.pieces[id].text) continue;
      pieces[id].score = model.pieces[id].score;
      pieces[id].kind = model.pieces[id].kind;
    }
    return;
  }
  set_scores(files.model, pieces, where);
  const Json root = parse_json(content, where);
  const std::string unknown = json_string(json_member(root, "model", where), "unk_token", where, "");
  for (Piece& piece : pieces) {
    if (!unknown.empty() && piece.text == unknown) piece.kind = Kind::unknown;
  }
}

/// Whether the tokenizer puts a blank before a text, in any case and also behind special tokens, as llama.cpp does; its
/// normalizer must be that of SentencePiece.
bool has_blank_before(const TokenizerFiles& files, const std::string& where) {
  const auto marked = [&](std::string_view text, bool at_start) {
    return files.marks.apply(files.normalizer.apply(text, at_start), at_start);
  };
  const std::string mark(kBlankMark), plain = mark + "a" + mark + mark + "b";
  const std::string found = marked(" a  b", true);
  if (found == plain && marked("a", true) == "a") return false;
  if (found == mark + plain && marked(" a  b", false) == found) return true;
  cannot(where,
         fmt::format(
             "it puts a blank before some texts only (\" a  b\" becomes {:?}); if the folder has a tokenizer.model, "
             "remove tokenizer.json, and that is written",
             found));
}

}  // namespace

std::vector<GgufEntry> gguf_tokenizer_entries(const fs::path& tokenizer, int64_t rows) {
  const TokenizerFiles files = load_tokenizer_files(tokenizer);
  const std::string where = tokenizer.string();
  const bool characters = files.model.alphabet == Alphabet::characters;
  std::vector<Piece> pieces = pieces_of(files, rows, where);
  std::vector<GgufEntry> entries = {{"tokenizer.ggml.model", GgufValue::text(characters ? "llama" : "gpt2")}};
  const auto add = [&](const char* key, GgufValue value) {
    entries.push_back({std::string("tokenizer.ggml.") + key, std::move(value)});
  };
  if (files.unigram) cannot(where, "it is a unigram model, whose form (t5) this program does not write");
  if (files.normalizer.has_map_or_expression()) {
    cannot(where, "its normalizer maps characters, matches expressions or takes blanks away");
  }
  if (files.normalizer.has_normal_form()) {
    log_warning(
        "{}: its normal form of Unicode (normalizer) is left out: a GGUF file cannot say it, and llama.cpp does not "
        "apply it; text in another form gets other ids there",
        where);
  }
  if (characters) {
    make_sentencepiece(files, pieces, where);
    add("pre", GgufValue::text("default"));
    add("add_space_prefix", GgufValue::boolean(has_blank_before(files, where)));
    add("scores", scores(pieces));
  } else {
    if (!files.normalizer.has_normal_forms_only()) cannot(where, "it changes text before it is cut (normalizer)");
    add("pre", GgufValue::text(pre_name(files, where)));
    add("merges", merges_of(files.model));
  }
  add("tokens", texts(pieces));
  add("token_type", integers(pieces));
  const auto add_id = [&](const char* key, std::optional<int32_t> id) {
    if (id) add(key, GgufValue::u32(static_cast<uint32_t>(*id)));
  };
  add_id("bos_token_id", files.bos);
  add_id("eos_token_id", files.eos);
  add_id("padding_token_id", files.pad);
  const auto unknown =
      std::find_if(pieces.begin(), pieces.end(), [](const Piece& piece) { return piece.kind == Kind::unknown; });
  if (unknown != pieces.end()) add_id("unknown_token_id", static_cast<int32_t>(unknown - pieces.begin()));
  add("add_bos_token", GgufValue::boolean(adds_only(files.prefix, files.bos, "before", where)));
  add("add_eos_token", GgufValue::boolean(adds_only(files.suffix, files.eos, "after", where)));
  return entries;
}

}  // namespace moe
