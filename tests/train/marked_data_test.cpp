// Training on conversations: tokens that are only read have no loss, and everything else is as with texts.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "infer/loaded_model.h"
#include "tests/support/tiny_run.h"

namespace moe {
namespace {

using test::TinyRun;

/// A copy of the dataset "data" with marks: mark(document, position) says whether a token is learned.
void mark_dataset(const TinyRun& tiny, const std::string& name, const std::function<bool(int64_t, int64_t)>& mark,
                  const std::vector<int32_t>& answer_ends = {}) {
  const Dataset plain((tiny / "data").string());
  DatasetWriter writer(tiny / name, {.vocab_size = plain.info().vocab_size,
                                     .bos_id = plain.info().bos_id,
                                     .eos_id = plain.info().eos_id,
                                     .tokenizer_fingerprint = plain.info().tokenizer_fingerprint,
                                     .domains = {}});
  const int32_t domain = writer.add_domain("text");
  for (int64_t document = 0; document < plain.count(); ++document) {
    std::vector<int32_t> ids(static_cast<size_t>(plain.length(document)));
    plain.copy_tokens(document, 0, plain.length(document), ids.data());
    std::vector<uint8_t> marks;
    int64_t learned = 0;
    for (int64_t i = 0; i < plain.length(document); ++i) {
      marks.push_back(mark(document, i) ? 1 : 0);
      learned += marks.back();
    }
    writer.add_marked(ids, marks, domain, plain.text_bytes(document), learned);
  }
  Tokenizer::load(tiny / "data").save(writer.temporary_folder());
  writer.set_answer_ends(answer_ends);
  writer.finish();
}

TEST(MarkedData, WithAllTokensLearnedIsTheRunOnTexts) {
  TinyRun tiny;
  mark_dataset(tiny, "all", [](int64_t, int64_t) { return true; });
  tiny.train("plain");
  tiny.train("marked", {"data.train=" + (tiny / "all").string()});
  test::expect_same_end(tiny, "plain", "marked");
}

TEST(MarkedData, PromptsHaveNoLossAndTheirTokensAreStillCounted) {
  TinyRun tiny;
  mark_dataset(tiny, "answers", [](int64_t document, int64_t position) { return position > 6 + document % 3; });
  const std::string answers = "data.train=" + (tiny / "answers").string();
  tiny.train("plain");
  tiny.train("marked", {answers, "data.valid=" + (tiny / "answers").string()});
  EXPECT_NE(tiny.log("marked")[0].at("loss"), tiny.log("plain")[0].at("loss"));
  EXPECT_EQ(tiny.log("marked")[0].at("tokens"), tiny.log("plain")[0].at("tokens"));
  // The first step again, with prompts of weight 0 instead.
  const Dataset texts((tiny / "data").string()), marked((tiny / "answers").string());
  const RunConfig run = tiny.config("unused");
  const BatchSource::Options options{.sequence_length = run.data.sequence_length, .rows_per_step = 4, .seed = run.seed};
  const BatchSource plain_rows(texts, options), marked_rows(marked, options);
  const Batch a = plain_rows.rows(0, 0, 4), b = marked_rows.rows(0, 0, 4);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.segment_start, b.segment_start);
  int64_t learned = 0;
  for (size_t i = 0; i < a.targets.size(); ++i) {
    if (b.targets[i] < 0) continue;
    EXPECT_EQ(b.targets[i], a.targets[i]);
    ++learned;
  }
  EXPECT_EQ(b.num_targets, learned);
  EXPECT_LT(learned, a.num_targets);
  // Evaluation counts the learned tokens and bytes alone.
  int64_t targets = 0, bytes = 0;
  for (int64_t document = 0; document < marked.count(); ++document) {
    targets += std::max<int64_t>(marked.length(document) - (7 + document % 3), 0);
    bytes += marked.text_bytes(document);
  }
  const Json evaluation = tiny.log("marked", "eval.jsonl").back();
  EXPECT_EQ(evaluation.at("tokens"), targets) << evaluation.dump();
  EXPECT_EQ(evaluation.at("bytes"), bytes);
}

TEST(MarkedData, TheEosOfEveryAnswerCarriesWeight) {
  TinyRun tiny;
  const Dataset texts((tiny / "data").string());
  const auto is_last = [&](int64_t document, int64_t position) { return position + 1 == texts.length(document); };
  mark_dataset(tiny, "ends", is_last);
  mark_dataset(tiny, "answers", [](int64_t, int64_t position) { return position > 4; });
  mark_dataset(tiny, "without",
               [&](int64_t document, int64_t position) { return position > 4 && !is_last(document, position); });
  const int32_t eos = texts.info().eos_id;
  {
    const Dataset marked((tiny / "ends").string());
    const BatchSource source(marked, {.sequence_length = 24, .rows_per_step = 1, .seed = 1});
    int64_t learned = 0;
    for (int64_t row = 0; row < source.rows_per_epoch(); ++row) learned += source.rows(row, 0, 1).num_targets;
    EXPECT_EQ(learned, texts.count()) << "each once in an epoch";
  }
  constexpr int64_t kRows = 16;  // the ends are in few of the rows
  const auto batch_of = [&](const char* name) {
    const Dataset marked((tiny / name).string());
    const BatchSource source(marked, {.sequence_length = 24, .rows_per_step = kRows, .seed = 1});
    return source.rows(0, 0, kRows);
  };
  const Batch ends = batch_of("ends"), answers = batch_of("answers"), without = batch_of("without");
  int64_t count = 0;
  for (const int32_t target : ends.targets) {
    EXPECT_TRUE(target == -1 || target == eos);
    count += target == eos ? 1 : 0;
  }
  EXPECT_GT(count, 0);
  EXPECT_EQ(answers.num_targets, without.num_targets + count);
  // The gradient of the head's row of EOS, with the ends and without them.
  const RunConfig run = tiny.config("unused", {"data.rows_per_step=16", "data.microbatch_rows=16"});
  ThreadPool pool(1);
  const auto device = make_cpu_device();
  const auto backend = make_cpu_backend(pool);
  const auto gradient_at_eos = [&](const Batch& batch) {
    TrainingStep step(run.model, run.step, plan_training(run.model, run.step), *device, *backend);
    step.initialize(1, 0.1);
    step.accumulate([&](int64_t) { return batch; });
    const auto* row = step.gradients().back().at(eos).as<float>();
    return std::vector<float>(row, row + run.model.hidden_size);
  };
  EXPECT_NE(gradient_at_eos(answers), gradient_at_eos(without));
}

TEST(MarkedData, PromptsAreTargetsOfWeightZeroBitForBit) {
  TinyRun tiny;
  mark_dataset(tiny, "answers", [](int64_t document, int64_t position) { return position > 6 + document % 3; });
  const Dataset texts((tiny / "data").string()), marked((tiny / "answers").string());
  const BatchSource::Options options{.sequence_length = 24, .rows_per_step = 4, .seed = 1};
  Batch weighted = BatchSource(texts, options).rows(0, 0, 4);
  const Batch batch = BatchSource(marked, options).rows(0, 0, 4);
  for (const int32_t target : batch.targets) weighted.weights.push_back(target < 0 ? 0.0f : 1.0f);
  const RunConfig run = tiny.config("unused", {"data.microbatch_rows=4"});
  ThreadPool pool(1);
  const auto device = make_cpu_device();
  const auto backend = make_cpu_backend(pool);
  TrainingStep one(run.model, run.step, plan_training(run.model, run.step), *device, *backend);
  TrainingStep other(run.model, run.step, plan_training(run.model, run.step), *device, *backend);
  for (TrainingStep* const step : {&one, &other}) step->initialize(1, 0.1);
  one.accumulate([&](int64_t) { return batch; });
  other.accumulate([&](int64_t) { return weighted; });
  for (size_t p = 0; p < one.table().size(); ++p) {
    const View &a = one.gradients()[p], &b = other.gradients()[p];
    if (!a) continue;
    EXPECT_EQ(std::memcmp(a.data, b.data, a.bytes()), 0) << one.table()[p].name;
  }
  EXPECT_EQ(one.update(1, 0).loss, other.update(1, 0).loss);
}

TEST(MarkedData, AConversationPackedHasTheLossItHasAlone) {
  TinyRun tiny;
  mark_dataset(tiny, "answers", [](int64_t document, int64_t position) { return position > 3 + document % 3; });
  tiny.train("base");
  const Dataset marked((tiny / "answers").string());
  ThreadPool pool(2);
  const auto device = make_cpu_device();
  const auto backend = make_cpu_backend(pool);
  const LoadedModel model(tiny / "base/step-12", DType::f32, *device);
  const ModelOnDevice runtime{model.model(), DType::f32, *device, *backend};
  const auto nats = [&](const Documents& documents) {
    return evaluate(runtime, documents, {.sequence_length = 48, .batch_rows = 3, .keep_documents = true}).document_nats;
  };
  const std::vector<double> packed = nats(marked);
  for (int64_t document = 0; document < marked.count(); ++document) {
    const int64_t length = marked.length(document);
    if (count_targets(marked, document) == 0) continue;
    std::vector<int32_t> ids(static_cast<size_t>(length));
    std::vector<uint8_t> marks(ids.size());
    marked.copy_tokens(document, 0, length, ids.data());
    marked.copy_marks(document, 0, length, marks.data());
    MemoryDocuments alone;
    alone.add(std::move(ids), std::move(marks), alone.add_domain("one"), 1);
    EXPECT_EQ(nats(alone).front(), packed[static_cast<size_t>(document)]) << document;
  }
}

TEST(MarkedData, ResumesBitForBitAndIsRefusedForOtherMarks) {
  TinyRun tiny;
  mark_dataset(tiny, "answers", [](int64_t, int64_t position) { return position > 4; });
  mark_dataset(tiny, "others", [](int64_t, int64_t position) { return position > 5; });
  const std::string answers = "data.train=" + (tiny / "answers").string();
  tiny.train("straight", {answers});
  tiny.train("again", {answers});
  fs::remove_all(tiny / "again/step-12");
  fs::remove(tiny / "again/latest");
  tiny.resume("again", {answers});
  test::expect_same_end(tiny, "straight", "again");
  EXPECT_THAT(test::error_of<Error>([&] { tiny.resume("straight", {"data.train=" + (tiny / "others").string()}); }),
              testing::HasSubstr("data.train"));
}

/// A row's end would separate an answer from its question. A text may go on in the next row.
TEST(MarkedData, ConversationsLongerThanARowAreRefusedBeforeTheFirstStep) {
  TinyRun tiny;
  const Dataset plain((tiny / "data").string());
  int64_t longest = 0, longer = 0;
  for (int64_t document = 0; document < plain.count(); ++document) {
    longest = std::max(longest, plain.length(document));
    longer += plain.length(document) > 24 ? 1 : 0;
  }
  ASSERT_GT(longer, 1);
  const auto answers = [](int64_t, int64_t position) { return position > 2; };
  mark_dataset(tiny, "chats", answers, {1});
  mark_dataset(tiny, "texts", [](int64_t, int64_t) { return true; }, {1});
  const std::string chats = (tiny / "chats").string(), texts = (tiny / "texts").string();
  const std::string expected = fmt::format(
      "chats has {} conversations of more than the 24 tokens of a row (data.sequence_length), the longest of {}; use "
      "longer rows, or make the dataset with --max-tokens 24",
      longer, longest);
  for (const char* key : {"data.train", "data.valid"}) {
    EXPECT_THAT(test::error_of<Error>([&] { tiny.train("never", {fmt::format("{}={}", key, chats)}); }),
                testing::HasSubstr(expected));
    EXPECT_FALSE(fs::exists(tiny / "never/log.jsonl"));
  }
  // Among texts, which may be cut, too.
  const Dataset both(fmt::format(R"(["{}", "{}"])", texts, chats));
  const Tokenizer tokenizer = Tokenizer::load(tiny / "chats");
  EXPECT_THAT(test::error_of<Error>([&] {
                check_before_start(tiny.config("never"), {both, nullptr, tokenizer});
              }),
              testing::HasSubstr(expected));
  tiny.train("texts-run", {"data.train=" + texts, "train.steps=1"});
  const std::vector<std::string> wide{"data.train=" + chats, "train.steps=1",
                                      fmt::format("data.sequence_length={}", longest),
                                      fmt::format("model.max_position_embeddings={}", longest)};
  tiny.train("wide", wide);
}

TEST(MarkedData, WithoutALearnedTokenIsRefusedBeforeTheFirstStep) {
  TinyRun tiny;
  mark_dataset(tiny, "prompts", [](int64_t, int64_t position) { return position == 0; });
  EXPECT_THAT(test::error_of<Error>([&] { tiny.train("never", {"data.train=" + (tiny / "prompts").string()}); }),
              testing::HasSubstr("there is nothing to learn from it"));
  EXPECT_FALSE(fs::exists(tiny / "never/log.jsonl"));
}

}  // namespace
}  // namespace moe
