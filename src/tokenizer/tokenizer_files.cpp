#include "tokenizer/tokenizer_files.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/paths.h"
#include "tokenizer/bpe_json.h"
#include "tokenizer/gguf_tokenizer.h"
#include "tokenizer/side_files.h"
#include "tokenizer/token_passes.h"
#include "tokenizer/unigram_json.h"

namespace moe {
namespace {

constexpr std::string_view kTokenizerJson = "tokenizer.json";
constexpr std::string_view kSentencePiece = "tokenizer.model";
constexpr std::string_view kGpt2End = "<|endoftext|>";

bool has_step(const Json& node, std::string_view type) {
  if (node.is_object() && node.contains("type") && node["type"] == type) return true;
  return node.is_structured() &&
         std::any_of(node.begin(), node.end(), [&](const Json& child) { return has_step(child, type); });
}

/// A BPE vocabulary of characters has tokens for bytes that no character covers, and no byte letters.
Alphabet alphabet_of(const Json& root, const std::string& name) {
  const Json* pre_tokenizer = json_find(root, "pre_tokenizer", name);
  const bool fallback = json_bool(json_member(root, "model", name), "byte_fallback", name + ": model", false);
  const bool byte_level = pre_tokenizer != nullptr && has_step(*pre_tokenizer, "ByteLevel");
  return fallback && !byte_level ? Alphabet::characters : Alphabet::bytes;
}

/// "Strip" of blanks at the start: how many.
int64_t stripped_blanks(const Json& node, const std::string& where) {
  if (json_string(node, "content", where) != " " || json_int(node, "stop", where, 0) != 0) {
    fail("{}: the decoder Strip is only supported for blanks at the start", where);
  }
  return json_int(node, "start", where, 0);
}

void read_decoder(const Json& node, const std::string& where, TokenizerFiles& files) {
  const std::string type = json_string(node, "type", where);
  const bool characters = files.model.alphabet == Alphabet::characters;
  if (type == "Sequence") {
    for (const Json& child : json_array(node, "decoders", where)) read_decoder(child, where, files);
  } else if (type == "Metaspace" && characters) {
    const std::string scheme = json_string(node, "prepend_scheme", where, "always");
    files.decodes_marks = true;
    files.strips_blank = scheme != "never" && json_bool(node, "add_prefix_space", where, true);
  } else if (type == "Replace" && characters) {
    const Json& pattern = json_member(node, "pattern", where);
    if (json_string(pattern, "String", where, "") != kBlankMark || json_string(node, "content", where) != " ") {
      fail("{}: the decoder Replace is only supported from \"{}\" to a blank", where, kBlankMark);
    }
    files.decodes_marks = true;
  } else if (type == "Strip" && characters) {
    const int64_t blanks = stripped_blanks(node, where);
    if (blanks < 0 || blanks > 1) fail("{}: the decoder Strip removes {} blanks, expected 0 or 1", where, blanks);
    files.strips_blank = blanks == 1;
  } else if (type != "Fuse" && !(characters ? type == "ByteFallback" : type == "ByteLevel")) {
    fail("{}: the decoder {} is not supported, expected {}", where, type,
         characters ? "Sequence, Replace, ByteFallback, Fuse, Strip or Metaspace" : "ByteLevel");
  }
}

/// Puts the "single" template of a TemplateProcessing around the present prefix and suffix.
void wrap_in_template(const Json& node, const std::string& where, TokenizerFiles& files) {
  std::vector<int32_t> before, after;
  bool seen_text = false;
  for (const Json& piece : json_array(node, "single", where)) {
    if (const Json* text = json_find(piece, "Sequence", where); text != nullptr) {
      if (seen_text || json_string(*text, "id", where) != "A") {
        fail("{}: the template holds the text more than once or another text, expected Sequence A once", where);
      }
      seen_text = true;
      continue;
    }
    const std::string name = json_string(json_member(piece, "SpecialToken", where), "id", where);
    const std::string special_where = where + ": special_tokens";
    const Json& special = json_member(json_member(node, "special_tokens", where), name, special_where);
    for (const Json& id : json_array(special, "ids", special_where)) {
      if (!id.is_number_integer() || id > INT32_MAX || id < 0) {
        fail("{}: {:?} has the id {}, expected an integer of 0 or more", special_where, name, json_shown(id));
      }
      (seen_text ? after : before).push_back(id.get<int32_t>());
    }
  }
  if (!seen_text) fail("{}: the template leaves the text out, expected Sequence A once", where);
  files.prefix.insert(files.prefix.begin(), before.begin(), before.end());
  files.suffix.insert(files.suffix.end(), after.begin(), after.end());
}

/// "cls" and "sep" of RobertaProcessing and BertProcessing: [text, id].
int32_t id_in_pair(const Json& node, const char* key, const std::string& where) {
  const Json& pair = json_member(node, key, where);
  const bool valid =
      pair.is_array() && pair.size() == 2 && pair[1].is_number_integer() && pair[1] >= 0 && pair[1] <= INT32_MAX;
  if (!valid) fail("{}: {} is {}, expected [\"text\", id]", where, key, json_shown(pair));
  return pair[1].get<int32_t>();
}

void add_post_processor(const Json& node, const std::string& where, TokenizerFiles& files) {
  const std::string type = json_string(node, "type", where);
  if (type == "Sequence") {
    for (const Json& child : json_array(node, "processors", where)) add_post_processor(child, where, files);
  } else if (type == "TemplateProcessing") {
    wrap_in_template(node, where, files);
  } else if (type == "RobertaProcessing" || type == "BertProcessing") {
    files.prefix.insert(files.prefix.begin(), id_in_pair(node, "cls", where));
    files.suffix.push_back(id_in_pair(node, "sep", where));
  } else if (type != "ByteLevel") {
    fail(
        "{}: the step {} is not supported (supported: Sequence, TemplateProcessing, RobertaProcessing, BertProcessing, "
        "ByteLevel)",
        where, type);
  }
}

std::string read_if_there(const fs::path& path) { return path_exists(path) ? read_file(path) : std::string(); }

SideFiles read_side_files(const fs::path& folder) {
  return {.config = read_if_there(folder / "tokenizer_config.json"),
          .added_tokens = read_if_there(folder / "added_tokens.json"),
          .special_tokens_map = read_if_there(folder / "special_tokens_map.json"),
          .chat_template = read_if_there(folder / "chat_template.jinja")};
}

TokenizerFiles load_gpt2_files(const fs::path& folder) {
  const std::string vocab_name = (folder / "vocab.json").string();
  const SideFiles side = read_side_files(folder);
  TokenizerFiles files;
  files.contents = {{"vocab.json", read_file(folder / "vocab.json")}, {"merges.txt", read_file(folder / "merges.txt")}};
  files.model = parse_gpt2_model(parse_json(files.contents[0].second, vocab_name), vocab_name, files.contents[1].second,
                                 (folder / "merges.txt").string());
  const std::string config_name = (folder / "tokenizer_config.json").string();
  const Json config = side.config.empty() ? Json::object() : parse_json(side.config, config_name);
  const bool add_blank = json_bool(config, "add_prefix_space", config_name, false);
  files.pre_tokenizer = PreTokenizer(Json{{"type", "ByteLevel"}, {"add_prefix_space", add_blank}}, vocab_name);
  const auto& tokens = files.model.tokens;
  if (const auto end = std::find(tokens.begin(), tokens.end(), kGpt2End); end != tokens.end()) {
    files.added.push_back({.id = static_cast<int32_t>(end - tokens.begin()),
                           .content = std::string(kGpt2End),
                           .special = true,
                           .normalized = true});
  }
  apply_side_files(side, folder.string(), files);
  check_added_tokens(files, folder.string());
  const bool no_roles = !files.bos && !files.eos;
  if (no_roles && !files.added.empty()) files.bos = files.eos = files.added[0].id;
  return files;
}

}  // namespace

TokenizerFiles parse_tokenizer_files(std::string tokenizer_json, const SideFiles& side, const std::string& name) {
  const Json root = parse_json(tokenizer_json, name);
  TokenizerFiles files;
  files.contents.emplace_back(kTokenizerJson, std::move(tokenizer_json));
  if (json_find(root, "truncation", name) != nullptr) fail("{}: truncation is set, which is not supported", name);
  if (const Json* padding = json_find(root, "padding", name); padding != nullptr) {
    const Json* strategy = json_find(*padding, "strategy", name + ": padding");
    const bool only_batches = strategy != nullptr && *strategy == "BatchLongest";
    if (!only_batches) fail("{}: padding to a fixed length is set, which is not supported", name);
  }
  const Json& model = json_member(root, "model", name);
  if (is_unigram_json(model, name + ": model")) {
    files.model.alphabet = Alphabet::characters;
    files.unigram = parse_unigram_model(model, files.model.tokens, name + ": model");
  } else {
    files.model = parse_bpe_model(model, alphabet_of(root, name), name + ": model");
  }
  const Alphabet alphabet = files.model.alphabet;
  files.added = parse_added_tokens(root, files.model, name);
  if (const Json* node = json_find(root, "normalizer", name))
    files.normalizer = Normalizer(*node, name + ": normalizer");
  if (const Json* node = json_find(root, "decoder", name)) read_decoder(*node, name + ": decoder", files);
  if (const Json* node = json_find(root, "post_processor", name)) {
    add_post_processor(*node, name + ": post_processor", files);
  }
  if (const Json* node = json_find(root, "pre_tokenizer", name)) {
    files.pre_tokenizer = PreTokenizer(*node, name, alphabet);
    files.marks = Normalizer::of_metaspace(*node, name + ": pre_tokenizer");
    if (!files.marks.empty() && alphabet == Alphabet::bytes) {
      fail("{}: pre_tokenizer: Metaspace needs a model with byte_fallback; other tokenizers are not supported", name);
    }
    if (files.normalizer.cuts_beginnings() && files.marks.marks_beginnings()) {
      fail(
          "{}: Metaspace with prepend_scheme first is not supported behind a normalizer that may take away the "
          "beginning of a text (Strip, or Replace with an empty text); use the scheme always or never",
          name);
    }
  } else if (alphabet == Alphabet::bytes) {
    json_member(root, "pre_tokenizer", name);
  }
  apply_side_files(side, fs::path(name).parent_path().string(), files);
  check_added_tokens(files, name);
  if (!files.bos && files.prefix.size() == 1) files.bos = files.prefix[0];
  return files;
}

TokenizerFiles load_gguf_tokenizer(const fs::path& path) {
  const GgufFile file(path);
  if (!has_gguf_tokenizer(file)) fail("{}: the file has no tokenizer (tokenizer.ggml.model)", path.string());
  const std::string config = json_text(gguf_tokenizer_config(file), 2) + "\n";
  const std::string name = (path / "tokenizer.json").string();  // in errors
  TokenizerFiles files = parse_tokenizer_files(gguf_tokenizer_json(file), {.config = config}, name);
  // llama.cpp takes the leftmost of all merges with one result, whatever their parts.
  files.model.rank_by_result = is_sentencepiece_in_gguf(file);
  return files;
}

TokenizerFiles load_tokenizer_files(const fs::path& path) {
  if (is_gguf(path)) return load_gguf_tokenizer(path);
  const bool in_folder = is_folder(path);
  const fs::path folder = in_folder ? path : path.parent_path();
  const auto sentencepiece = [&](const fs::path& file) {
    return parse_sentencepiece_files(read_file(file), read_side_files(folder), file.string());
  };
  const fs::path file = in_folder ? path / kTokenizerJson : path;
  if (!in_folder && file.extension() == ".model") return sentencepiece(file);
  if (in_folder && !path_exists(file)) {
    if (path_exists(folder / "vocab.json") && path_exists(folder / "merges.txt")) return load_gpt2_files(folder);
    if (path_exists(folder / kSentencePiece)) return sentencepiece(folder / kSentencePiece);
    fail("{}: no tokenizer.json in this folder, nor vocab.json with merges.txt, nor tokenizer.model", path.string());
  }
  return parse_tokenizer_files(read_file(file), read_side_files(folder), file.string());
}

}  // namespace moe
