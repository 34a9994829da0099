#include "tokenizer/trainer.h"

#include <utility>

#include "base/error.h"
#include "tokenizer/byte_letters.h"
#include "tokenizer/merge_learner.h"
#include "tokenizer/tokenizer_files.h"

namespace moe {

std::string_view word_pattern(std::string_view name) {
  if (name == "moe") return kTrainedPattern;
  if (name == "qwen2") {
    return R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  }
  fail_usage("the tokenizer pattern '{}' is unknown: expected moe or qwen2", name);
}

namespace {

constexpr int32_t kByteTokens = 256;
constexpr size_t kBatchBytesPerWorker = size_t{8} << 20;

using OrderedJson = nlohmann::ordered_json;

std::vector<std::string> special_contents() {
  std::vector<std::string> contents = {std::string(kTrainedBos), std::string(kTrainedEos), std::string(kTrainedPad)};
  for (int i = 0; i < kReservedTokens; ++i) contents.push_back(fmt::format("<｜reserved_{}｜>", i));
  return contents;
}

OrderedJson pre_tokenizer_json(std::string_view pattern) {
  return {{"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}},
            {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}}}}};
}

OrderedJson added_tokens_json() {
  OrderedJson list = OrderedJson::array();
  for (const std::string& content : special_contents()) {
    list.push_back({{"id", list.size()},
                    {"content", content},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", false},
                    {"special", true}});
  }
  return list;
}

OrderedJson post_processor_json() {
  const auto text = [](const char* name, int type) {
    return OrderedJson{{"Sequence", {{"id", name}, {"type_id", type}}}};
  };
  const OrderedJson bos = {{"SpecialToken", {{"id", kTrainedBos}, {"type_id", 0}}}};
  OrderedJson json = {{"type", "TemplateProcessing"}};
  json["single"] = OrderedJson::array({bos, text("A", 0)});
  json["pair"] = OrderedJson::array({bos, text("A", 0), text("B", 1)});
  json["special_tokens"][std::string(kTrainedBos)] = {
      {"id", kTrainedBos}, {"ids", OrderedJson::array({0})}, {"tokens", OrderedJson::array({kTrainedBos})}};
  return json;
}

OrderedJson model_json(const LearnedMerges& learned) {
  OrderedJson vocab = OrderedJson::object();
  std::vector<std::string> tokens = special_contents();
  for (const std::string& letter : byte_letters()) tokens.push_back(letter);
  for (const std::string& bytes : learned.tokens) tokens.push_back(to_byte_letters(bytes));
  // push_back of a pair does not search for the key. An ordered object would search in linear time.
  auto& members = vocab.get_ref<OrderedJson::object_t&>();
  for (size_t id = 0; id < tokens.size(); ++id) members.emplace_back(tokens[id], id);
  OrderedJson merges = OrderedJson::array();
  const auto spelled = [&](int32_t id) { return tokens[static_cast<size_t>(id)]; };
  for (const Merge& merge : learned.merges) merges.push_back(spelled(merge.left) + " " + spelled(merge.right));
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", vocab},
          {"merges", merges}};
}

std::string tokenizer_json(const LearnedMerges& learned, std::string_view pattern) {
  const OrderedJson decoder = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
  const OrderedJson root = {{"version", "1.0"},
                            {"truncation", nullptr},
                            {"padding", nullptr},
                            {"added_tokens", added_tokens_json()},
                            {"normalizer", nullptr},
                            {"pre_tokenizer", pre_tokenizer_json(pattern)},
                            {"post_processor", post_processor_json()},
                            {"decoder", decoder},
                            {"model", model_json(learned)}};
  return json_text(root, 2) + "\n";
}

std::string config_json() {
  const OrderedJson root = {{"add_bos_token", true},
                            {"add_eos_token", false},
                            {"bos_token", kTrainedBos},
                            {"eos_token", kTrainedEos},
                            {"pad_token", kTrainedPad},
                            {"clean_up_tokenization_spaces", false},
                            {"tokenizer_class", "PreTrainedTokenizerFast"}};
  return json_text(root, 2) + "\n";
}

}  // namespace

TokenizerTrainer::TokenizerTrainer(TrainerOptions options, ThreadPool& pool)
    : options_(std::move(options)),
      pool_(pool),
      pre_tokenizer_(Json(pre_tokenizer_json(word_pattern(options_.pattern))), "trained tokenizer"),
      counts_(static_cast<size_t>(pool.size())),
      scratch_(static_cast<size_t>(pool.size())),
      sample_(static_cast<uint64_t>(options_.max_bytes)) {
  if (options_.vocab_size < kLeastVocabulary || options_.vocab_size > kMostVocabulary) {
    fail_usage("--vocab-size {}: expected a whole number from {} ({} special tokens and {} bytes) to {}",
               options_.vocab_size, kLeastVocabulary, kSpecialTokens, kByteTokens, kMostVocabulary);
  }
}

void TokenizerTrainer::add_document(std::string_view text) {
  text_bytes_ += text.size();
  if (options_.max_bytes > 0) {
    sample_.add(text);
  } else {
    add_to_batch(std::string(text));
  }
}

void TokenizerTrainer::add_to_batch(std::string text) {
  batch_bytes_ += text.size();
  counted_bytes_ += text.size();
  batch_.push_back(std::move(text));
  if (batch_bytes_ >= kBatchBytesPerWorker * counts_.size()) count_batch();
}

void TokenizerTrainer::count_batch() {
  pool_.parallel_for(static_cast<int64_t>(batch_.size()), [&](int64_t index, int worker) {
    WordCounts& counts = counts_[static_cast<size_t>(worker)];
    pre_tokenizer_.for_each_word(batch_[static_cast<size_t>(index)], scratch_[static_cast<size_t>(worker)],
                                 [&](std::string_view word) { counts.add(word); });
  });
  batch_.clear();
  batch_bytes_ = 0;
}

Tokenizer TokenizerTrainer::finish() {
  for (std::string& text : sample_.take()) add_to_batch(std::move(text));
  count_batch();
  for (size_t worker = 1; worker < counts_.size(); ++worker) counts_[0].take(counts_[worker]);
  word_count_ = counts_[0].size();
  const int32_t merges = options_.vocab_size - kSpecialTokens - kByteTokens;
  const LearnedMerges learned = learn_merges(counts_[0], kSpecialTokens, merges);
  return Tokenizer(parse_tokenizer_files(tokenizer_json(learned, word_pattern(options_.pattern)),
                                         {.config = config_json()}, "trained tokenizer"));
}

}  // namespace moe
