#include "tokenizer/gguf_tokenizer.h"

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tokenizer/bpe_json.h"
#include "tokenizer/gguf_pre_tokenizers.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/sentencepiece.h"

namespace moe {
namespace {

using Kind = SentencePieceModel::Kind;  // GGUF files number the kinds of tokens alike

constexpr const char* kModel = "tokenizer.ggml.model";
constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTemplate = "tokenizer.chat_template";

bool flag(const GgufFile& file, const char* key, bool absent) {
  const GgufValue* const found = file.value(key);
  if (found == nullptr) return absent;
  const auto* const value = std::get_if<bool>(&found->value);
  if (value == nullptr) fail("{}: {} is {}, expected a boolean", file.path().string(), key, found->shown());
  return *value;
}

std::string text(const GgufFile& file, const char* key, const char* absent) {
  return file.value(key) == nullptr ? absent : file.text(key);
}

/// The tokens with their kinds and scores.
std::vector<SentencePieceModel::Piece> pieces_of(const GgufFile& file) {
  const auto* const tokens = file.array(kTokens, GgufKind::text);
  const auto* const kinds = file.array("tokenizer.ggml.token_type", GgufKind::i32);
  const auto* const scores = file.array("tokenizer.ggml.scores", GgufKind::f32);
  if (tokens == nullptr) fail("{}: the metadata has no {}", file.path().string(), kTokens);
  for (const auto* other : {kinds, scores}) {
    if (other == nullptr || other->size() == tokens->size()) continue;
    fail("{}: the metadata has {} tokens, but {} kinds or scores of tokens", file.path().string(), tokens->size(),
         other->size());
  }
  std::vector<SentencePieceModel::Piece> pieces;
  for (size_t id = 0; id < tokens->size(); ++id) {
    const int64_t kind = kinds == nullptr ? 1 : std::get<int64_t>((*kinds)[id].value);
    if (kind < 1 || kind > 6) fail("{}: token {} is of the kind {}, expected 1 to 6", file.path().string(), id, kind);
    const double score = scores == nullptr ? 0 : std::get<double>((*scores)[id].value);
    const auto& token = std::get<std::string>((*tokens)[id].value);
    if (token.size() > kLongestTokenToCut) {
      fail("{}: token {} has {} bytes, expected at most {}", file.path().string(), id, token.size(),
           kLongestTokenToCut);
    }
    pieces.push_back({token, static_cast<float>(score), static_cast<Kind>(kind)});
  }
  return pieces;
}

/// The id that a key names; nothing if it is absent or no token's.
std::optional<int64_t> token_id(const GgufFile& file, const std::string& role, size_t tokens) {
  const std::string key = "tokenizer.ggml." + role + "_token_id";
  if (file.value(key) == nullptr) return std::nullopt;
  const int64_t id = file.integer(key);
  if (id < 0 || id >= static_cast<int64_t>(tokens)) return std::nullopt;
  return id;
}

const GgufPreTokenizer& pre_tokenizer_of(const GgufFile& file) {
  const std::string name = text(file, "tokenizer.ggml.pre", "default");
  const GgufPreTokenizer* const found = find_gguf_pre_tokenizer(name);
  if (found == nullptr) {
    fail("{}: tokenizer.ggml.pre is \"{}\", a way of cutting words that this program does not know",
         file.path().string(), name);
  }
  return *found;
}

bool is_sentencepiece(const GgufFile& file) {
  const std::string& model = file.text(kModel);
  if (model != "gpt2" && model != "llama") {
    fail("{}: {} is \"{}\", expected \"gpt2\" or \"llama\"", file.path().string(), kModel, model);
  }
  return model == "llama";
}

bool adds_bos(const GgufFile& file) {
  const bool absent = is_sentencepiece(file) || pre_tokenizer_of(file).adds_bos;
  return flag(file, "tokenizer.ggml.add_bos_token", absent);
}
bool adds_eos(const GgufFile& file) { return flag(file, "tokenizer.ggml.add_eos_token", false); }

Json special_step(const std::string& content) { return {{"SpecialToken", {{"id", content}, {"type_id", 0}}}}; }

/// BOS before the text and EOS after it; null if neither is added.
Json post_processor_of(const GgufFile& file, const std::vector<SentencePieceModel::Piece>& pieces) {
  Json single = Json::array(), special = Json::object();
  const auto add = [&](bool wanted, const char* role) {
    const auto id = wanted ? token_id(file, role, pieces.size()) : std::nullopt;
    if (!id) return;
    const std::string& content = pieces[static_cast<size_t>(*id)].text;
    single.push_back(special_step(content));
    special[content] = {{"id", content}, {"ids", {*id}}, {"tokens", {content}}};
  };
  add(adds_bos(file), "bos");
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  add(adds_eos(file), "eos");
  if (special.empty()) return nullptr;
  Json pair = single;
  pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
}

Json added_tokens_of(const std::vector<SentencePieceModel::Piece>& pieces) {
  Json added = Json::array();
  for (size_t id = 0; id < pieces.size(); ++id) {
    const Kind kind = pieces[id].kind;
    if (kind != Kind::control && kind != Kind::unknown && kind != Kind::user_defined) continue;
    added.push_back(added_token_json(static_cast<int64_t>(id), pieces[id].text, kind != Kind::user_defined));
  }
  return added;
}

/// Unused tokens fill the ids that the tokenizer leaves free.
Json vocabulary_of(const std::vector<SentencePieceModel::Piece>& pieces, const GgufFile& file) {
  std::unordered_map<std::string_view, size_t> seen;
  Json vocabulary = Json::object();
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (pieces[id].kind == Kind::unused || pieces[id].text.empty()) continue;
    if (const auto [before, fresh] = seen.emplace(pieces[id].text, id); !fresh) {
      fail("{}: the tokens {} and {} are both {:?}", file.path().string(), before->second, id, pieces[id].text);
    }
    vocabulary[pieces[id].text] = id;
  }
  return vocabulary;
}

Json byte_level_model(const GgufFile& file, const std::vector<SentencePieceModel::Piece>& pieces) {
  const auto* const merges = file.array("tokenizer.ggml.merges", GgufKind::text);
  if (merges == nullptr) fail("{}: the metadata has no tokenizer.ggml.merges", file.path().string());
  Json list = Json::array();
  for (const GgufValue& merge : *merges) list.push_back(std::get<std::string>(merge.value));
  return bpe_model_json(vocabulary_of(pieces, file), std::move(list), pre_tokenizer_of(file).ignore_merges);
}

Json sentencepiece_model(const GgufFile& file, const std::vector<SentencePieceModel::Piece>& pieces) {
  Json list = Json::array();
  for (const Merge& merge : sentencepiece_merges(pieces)) {
    list.push_back({pieces[static_cast<size_t>(merge.left)].text, pieces[static_cast<size_t>(merge.right)].text});
  }
  const auto unknown =
      std::find_if(pieces.begin(), pieces.end(), [](const auto& p) { return p.kind == Kind::unknown; });
  return bpe_model_json(vocabulary_of(pieces, file), std::move(list), false, true,
                        unknown == pieces.end() ? Json(nullptr) : Json(unknown->text));
}

void add_sentencepiece_steps(const GgufFile& file, Json& root) {
  const Json mark = {{"String", kBlankMark}}, blank = {{"String", " "}};
  const bool prefix = flag(file, "tokenizer.ggml.add_space_prefix", true);
  Json normalizers = Json::array();
  if (prefix) normalizers.push_back({{"type", "Prepend"}, {"prepend", kBlankMark}});
  normalizers.push_back({{"type", "Replace"}, {"pattern", blank}, {"content", kBlankMark}});
  Json decoders = {
      {{"type", "Replace"}, {"pattern", mark}, {"content", " "}}, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
  if (prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  root["normalizer"] = {{"type", "Sequence"}, {"normalizers", normalizers}};
  root["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
  root["pre_tokenizer"] = nullptr;
}

}  // namespace

bool has_gguf_tokenizer(const GgufFile& file) {
  return file.value(kModel) != nullptr && file.text(kModel) != "none" && file.text(kModel) != "no_vocab";
}

std::string gguf_tokenizer_json(const GgufFile& file) {
  const bool sentencepiece = is_sentencepiece(file);
  const auto pieces = pieces_of(file);
  Json root = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  root["added_tokens"] = added_tokens_of(pieces);
  root["post_processor"] = post_processor_of(file, pieces);
  if (sentencepiece) {
    root["model"] = sentencepiece_model(file, pieces);
    add_sentencepiece_steps(file, root);
  } else {
    root["model"] = byte_level_model(file, pieces);
    root["normalizer"] = nullptr;
    root["pre_tokenizer"] = to_json(pre_tokenizer_of(file));
    root["decoder"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  }
  return json_text(root, 2) + "\n";
}

Json gguf_tokenizer_config(const GgufFile& file) {
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}};
  const auto* const tokens = file.array(kTokens, GgufKind::text);
  const auto add_role = [&](const char* role, const char* key) {
    const auto id = tokens == nullptr ? std::nullopt : token_id(file, role, tokens->size());
    if (id) config[key] = std::get<std::string>((*tokens)[static_cast<size_t>(*id)].value);
  };
  add_role("bos", "bos_token");
  add_role("eos", "eos_token");
  add_role("unknown", "unk_token");
  add_role("padding", "pad_token");
  if (tokens != nullptr) {
    config["add_bos_token"] = config.contains("bos_token") && adds_bos(file);
    config["add_eos_token"] = config.contains("eos_token") && adds_eos(file);
  }
  if (file.value(kTemplate) != nullptr) config["chat_template"] = file.text(kTemplate);
  const auto* const more = file.array("tokenizer.chat_templates", GgufKind::text);
  if (more == nullptr) return config;
  Json templates = Json::array();
  if (config.contains("chat_template")) {
    templates.push_back({{"name", "default"}, {"template", config["chat_template"]}});
  }
  for (const GgufValue& name : *more) {
    const auto& named = std::get<std::string>(name.value);
    templates.push_back({{"name", named}, {"template", file.text(std::string(kTemplate) + "." + named)}});
  }
  config["chat_template"] = templates;
  return config;
}

bool is_sentencepiece_in_gguf(const GgufFile& file) { return is_sentencepiece(file); }

}  // namespace moe
