#include "data/builder.h"

#include <fstream>
#include <map>
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
    add_sources(writer, sources, pool, {.encode = encode_bytes, .progress = {}, .batch_bytes = batch_bytes});
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
              {.encode = encode_bytes,
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
    EXPECT_FALSE(fs::exists(out_.string() + ".tmp"));
    return error;
  };
  EXPECT_EQ(refusal(folder_ / "none.txt"),
            "cannot open " + (folder_ / "none.txt").string() + ": there is no such file");
  EXPECT_EQ(refusal(text_file("empty.jsonl", "\n\n")),
            (folder_ / "empty.jsonl").string() + " holds no document; leave it out or check how it was made");
  EXPECT_THAT(refusal(text_file("bad.jsonl", "{\"text\": \"a\"}\nnonsense\n")), HasSubstr("bad.jsonl:2: "));
  EXPECT_THAT(refusal(text_file("bad.csv", "a,b\n")), HasSubstr("cannot tell from its name how to read it"));
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
  EXPECT_EQ(error_of<Error>([&] { add_sources(writer, sources(), pool, {.encode = encode, .batch_bytes = 1000}); }),
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
