#include "data/builder.h"

#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/peak_memory.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;

// One id a byte, behind three specials.
std::vector<int32_t> encode_bytes(std::string_view text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(3 + static_cast<unsigned char>(c));
  return ids;
}

std::vector<int32_t> tokens_of(const Documents& documents, int64_t document) {
  std::vector<int32_t> tokens(static_cast<size_t>(documents.length(document)));
  documents.copy_tokens(document, 0, documents.length(document), tokens.data());
  return tokens;
}

std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) files[entry.path().filename()] = read_file(entry.path());
  return files;
}

class Building : public testing::Test {
 protected:
  static DatasetInfo info() { return {.vocab_size = 259, .bos_id = 0, .eos_id = 1, .domains = {}}; }
  fs::path text_file(const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }
  DatasetInfo build(const fs::path& out, const std::vector<TextSource>& sources, int threads, size_t batch_bytes,
                    int64_t shard_tokens = 5000) {
    ThreadPool pool(threads);
    DatasetWriter writer(out, info(), shard_tokens);
    add_sources(writer, sources, pool,
                {.encode = encode_texts(encode_bytes), .progress = {}, .batch_bytes = batch_bytes});
    const DatasetInfo result = writer.info();
    writer.finish();
    return result;
  }
  std::vector<TextSource> sources() {
    std::string lines;
    for (int i = 0; i < 300; ++i)
      lines += fmt::format("{{\"text\": \"{}\"}}\n", std::string(1 + i * 7 % 113, 'a' + i % 26));
    return {{.file = text_file("a.jsonl", lines), .domain = "a"},
            {.file = text_file("b.txt", "A text.\n"), .domain = "b"},
            {.file = text_file("c.jsonl", lines), .domain = "a"}};
  }

  TemporaryFolder folder_;
  fs::path out_ = folder_ / "dataset";
};

TEST_F(Building, TheFilesAreTheSameForAnyThreadsAndBatches) {
  const auto files = sources();
  build(out_, files, 1, size_t{8} << 20);
  const auto expected = contents(out_);
  EXPECT_GT(expected.size(), 5u);
  for (const int threads : {1, 2, 5}) {
    for (const size_t batch_bytes : {size_t{1}, size_t{1000}, size_t{8} << 20}) {
      const fs::path out = folder_ / "again";
      build(out, files, threads, batch_bytes);
      EXPECT_TRUE(contents(out) == expected) << threads << " threads, batches of " << batch_bytes;
      fs::remove_all(out);
    }
  }
}

TEST_F(Building, DocumentsKeepTheOrderOfTheirFilesAndTheirDomains) {
  const DatasetInfo built = build(out_, sources(), 2, 1000);
  const Dataset dataset(out_);
  EXPECT_EQ(dataset.info(), built);
  ASSERT_EQ(dataset.count(), 601);
  EXPECT_EQ(tokens_of(dataset, 0), tokens_of(dataset, 301));
  EXPECT_EQ(dataset.length(300), 8 + 2);
  EXPECT_EQ(dataset.domain(299), 0);
  EXPECT_EQ(dataset.domain(300), 1);
  EXPECT_EQ(dataset.domain(301), 0);
  EXPECT_THAT(dataset.domain_names(), ElementsAre("a", "b"));
}

TEST_F(Building, ProgressEndsAtTheWholeInput) {
  ThreadPool pool(2);
  DatasetWriter writer(out_, info());
  uint64_t read = 0, in_all = 0;
  bool grows = true;
  add_sources(writer, sources(), pool,
              {.encode = encode_texts(encode_bytes),
               .progress =
                   [&](const BuildProgress& progress) {
                     grows = grows && progress.bytes_read >= read;
                     read = progress.bytes_read;
                     in_all = progress.bytes_in_all;
                   },
               .batch_bytes = 1000});
  EXPECT_TRUE(grows);
  EXPECT_EQ(read, in_all);
}

TEST_F(Building, MistakesInTheInputAreNamedAndLeaveNothing) {
  const fs::path good = text_file("good.txt", "text");
  const auto refusal = [&](const fs::path& file) {
    const std::string error = error_of<Error>([&] {
      build(out_, {{.file = good, .domain = "d"}, {.file = file, .domain = "d"}}, 2, 1000);
    });
    EXPECT_FALSE(fs::exists(out_));
    EXPECT_THAT(folder_.files(), testing::Each(testing::Not(HasSubstr("dataset"))));
    return error;
  };
  EXPECT_EQ(refusal(folder_ / "none.txt"),
            "cannot open " + (folder_ / "none.txt").string() + ": there is no such file");
  EXPECT_THAT(refusal(text_file("bad.jsonl", "{\"text\": \"a\"}\nnonsense\n")), HasSubstr("bad.jsonl:2: "));
  EXPECT_THAT(refusal(text_file("bad.csv", "a,b\n")), HasSubstr("cannot tell from its name how to read it"));
}

TEST_F(Building, AnEmptyFileIsNoErrorUnlessAllAre) {
  const TextSource empty{.file = text_file("empty.jsonl", "\n\n"), .domain = "d"};
  const TextSource good{.file = text_file("good.txt", "text"), .domain = "d"};
  ThreadPool pool(2);
  {
    DatasetWriter writer(out_, info());
    EXPECT_THAT(add_sources(writer, {empty, good, empty}, pool, {.encode = encode_texts(encode_bytes)}).documents,
                ElementsAre(0, 1, 0));
    writer.finish();
  }
  EXPECT_EQ(Dataset(out_).count(), 1);
  DatasetWriter writer(folder_ / "none", info());
  EXPECT_THAT(error_of<Error>([&] {
                add_sources(writer, {empty, empty}, pool, {.encode = encode_texts(encode_bytes)});
              }),
              HasSubstr("there is no document in"));
}

TEST_F(Building, EveryFileIsLookedAtBeforeTheFirstIsRead) {
  ThreadPool pool(1);
  DatasetWriter writer(out_, info());
  int encoded = 0;
  const auto encode = [&](std::string_view text) {
    ++encoded;
    return encode_bytes(text);
  };
  const TextSource good{.file = text_file("good.txt", "text"), .domain = "d"};
  EXPECT_THAT(error_of<Error>([&] {
                add_sources(writer, {good, {.file = folder_ / "none.txt", .domain = "d"}}, pool,
                            {.encode = encode_texts(encode)});
              }),
              HasSubstr("none.txt: there is no such file"));
  EXPECT_EQ(encoded, 0);
}

TEST_F(Building, DocumentsThatCannotBeReadArePassedOverOnDemandInTheirOrder) {
  std::string lines;
  for (int i = 0; i < 200; ++i) lines += i % 50 == 7 ? "{\"text\": 1}\n" : "{\"text\": \"a\"}\n";
  const TextSource source{.file = text_file("bad.jsonl", lines), .domain = "d"};
  for (const size_t batch_bytes : {size_t{1}, size_t{1} << 20}) {
    ThreadPool pool(3);
    DatasetWriter writer(folder_ / fmt::format("out-{}", batch_bytes), info());
    std::vector<std::string> errors;
    add_sources(writer, {source}, pool,
                {.encode = encode_texts(encode_bytes),
                 .read = {.on_bad_document = [&](const std::string& error) { errors.push_back(error); }},
                 .batch_bytes = batch_bytes});
    EXPECT_EQ(writer.info().documents(), 196);
    EXPECT_THAT(errors, ElementsAre(HasSubstr("bad.jsonl:8: "), HasSubstr("bad.jsonl:58: "),
                                    HasSubstr("bad.jsonl:108: "), HasSubstr("bad.jsonl:158: ")));
  }
}

TEST_F(Building, TextsThatGiveNoTokenArePassedOverAndCounted) {
  ThreadPool pool(2);
  DatasetWriter writer(out_, info());
  const auto encode = [](std::string_view text) {
    return text[0] == ' ' ? std::vector<int32_t>{} : encode_bytes(text);
  };
  const TextSource source{.file = text_file("a.jsonl", "{\"text\": \" \"}\n{\"text\": \"b\"}\n"), .domain = "d"};
  const BuildReport report = add_sources(writer, {source}, pool, {.encode = encode_texts(encode)});
  EXPECT_EQ(report.without_tokens, 1);
  EXPECT_EQ(writer.info().documents(), 1);
}

TEST_F(Building, TheValidationPartIsPickedByTheTextAlone) {
  std::string lines, shuffled;
  for (int i = 0; i < 4000; ++i) {
    lines += fmt::format("{{\"text\": \"document {}\"}}\n", i % 2000);  // each twice
    shuffled += fmt::format("{{\"n\": {}, \"text\": \"document {}\"}}\n", i, i * 7 % 2000);
  }
  const auto picked = [&](const std::string& content, int threads) {
    const test::TemporaryFolder out;
    ThreadPool pool(threads);
    DatasetWriter train(out / "train", info()), valid(out / "valid", info());
    add_sources(train, {{.file = text_file("a.jsonl", content), .domain = "d"}}, pool,
                {.encode = encode_texts(encode_bytes), .valid = &valid, .valid_fraction = 0.1});
    train.finish();
    valid.finish();
    std::set<std::vector<int32_t>> texts;
    const Dataset written(out / "valid"), rest(out / "train");
    for (int64_t d = 0; d < written.count(); ++d) texts.insert(tokens_of(written, d));
    EXPECT_EQ(written.count() + rest.count(), 4000);
    EXPECT_EQ(static_cast<int64_t>(texts.size()) * 2, written.count()) << "equal documents go together";
    for (int64_t d = 0; d < rest.count(); ++d) EXPECT_FALSE(texts.contains(tokens_of(rest, d)));
    return texts;
  };
  const auto texts = picked(lines, 1);
  EXPECT_EQ(picked(shuffled, 3), texts);
  // 2000 draws of 0.1: the standard deviation is 13.4.
  EXPECT_NEAR(static_cast<double>(texts.size()), 200, 5 * 13.4);
}

TEST_F(Building, OfSeveralBadLinesTheFirstIsReported) {
  std::string lines;
  for (int i = 0; i < 200; ++i) lines += i >= 20 ? "{\"text\": 1}\n" : "{\"text\": \"a\"}\n";
  const fs::path file = text_file("bad.jsonl", lines);
  for (int round = 0; round < 5; ++round) {
    EXPECT_THAT(error_of<Error>([&] { build(out_, {{.file = file, .domain = "d"}}, 4, size_t{1} << 20); }),
                HasSubstr("bad.jsonl:21: "));
  }
}

TEST_F(Building, AnOlderDocumentsErrorComesBeforeThatOfALaterFile) {
  const fs::path bad = text_file("a.jsonl", "{\"text\": \"a\"}\nnonsense\n"), good = text_file("b.txt", "text");
  const fs::path cut = text_file("c.jsonl.gz", "\x1f\x8b\b");
  EXPECT_THAT(error_of<Error>([&] {
                build(out_, {{.file = good, .domain = "d"}, {.file = cut, .domain = "d"}}, 2, 1 << 20);
              }),
              HasSubstr("c.jsonl.gz"));
  const std::vector<TextSource> all = {
      {.file = bad, .domain = "d"}, {.file = good, .domain = "d"}, {.file = cut, .domain = "d"}};
  for (const size_t batch_bytes : {1, 20, 1 << 20}) {
    EXPECT_THAT(error_of<Error>([&] { build(out_, all, 2, batch_bytes); }), HasSubstr("a.jsonl:2: ")) << batch_bytes;
  }
}

TEST_F(Building, AFailureOfTheTokenizerOnAnotherThreadReachesTheCaller) {
  ThreadPool pool(3);
  DatasetWriter writer(out_, info());
  const auto encode = [](std::string_view text) -> std::vector<int32_t> {
    if (text.starts_with("c")) fail("cannot encode this");
    return {};
  };
  EXPECT_EQ(error_of<Error>(
                [&] { add_sources(writer, sources(), pool, {.encode = encode_texts(encode), .batch_bytes = 1000}); }),
            "cannot encode this");
}

TEST_F(Building, MemoryDoesNotGrowWithTheInput) {
  if (!test::kMemoryIsMeasurable) GTEST_SKIP() << "memory cannot be measured under a sanitizer";
  const std::string line = "{\"text\": \"" + std::string(2000, 'x') + "\"}\n";
  const auto lines = [&](int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += line;
    return text;
  };
  const fs::path small = text_file("small.jsonl", lines(2500));
  const fs::path large = text_file("large.jsonl", lines(20000));
  const auto peak = [&](const fs::path& file, const std::string& out) {
    return test::peak_memory_of(
        [&] { build(folder_ / out, {{.file = file, .domain = "d"}}, 1, size_t{1} << 20, int64_t{1} << 29); });
  };
  const int64_t for_small = peak(small, "small");
  const int64_t for_large = peak(large, "large");
  EXPECT_EQ(Dataset(folder_ / "large").count(), 20000);
  EXPECT_LT(for_large - for_small, int64_t{8} << 20) << "35 MB more of text were read and 70 MB more written";
}

}  // namespace
}  // namespace moe
