#include "data/shards.h"

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/weighted_paths.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using test::FullDisk;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

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

class Shards : public testing::Test {
 protected:
  static DatasetInfo info(int64_t vocab_size = 259) {
    return {.vocab_size = vocab_size, .bos_id = 0, .eos_id = 1, .tokenizer_fingerprint = 0x1234, .domains = {}};
  }
  fs::path text_file(const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }
  // Five documents in two domains and, by the limit of 20 ids, several shards.
  void write_small(int64_t vocab_size = 259, int64_t shard_tokens = 20) {
    DatasetWriter writer(out_, info(vocab_size), shard_tokens);
    const int32_t code = writer.add_domain("code");
    const int32_t prose = writer.add_domain("prose");
    EXPECT_EQ(writer.add_domain("code"), code);
    for (const auto& [text, domain] : small_) {
      writer.add_document(encode_bytes(text), domain == "code" ? code : prose, static_cast<int64_t>(text.size()));
    }
    write_file(writer.temporary_folder() / "tokenizer.json", "{}");
    writer.finish();
  }

  const std::vector<std::pair<std::string, std::string>> small_ = {
      {"one", "code"}, {"", "prose"}, {"three three three three", "prose"}, {"4", "code"}, {"five five", "prose"}};
  TemporaryFolder folder_;
  fs::path out_ = folder_ / "dataset";
};

TEST_F(Shards, ReadBackWhatWasWrittenAcrossShardsInBothWidths) {
  for (const int64_t vocab_size : {int64_t{259}, int64_t{65536}, int64_t{65537}}) {
    for (const int64_t shard_tokens : {int64_t{1}, int64_t{20}, int64_t{1000}}) {
      fs::remove_all(out_);
      write_small(vocab_size, shard_tokens);
      const Dataset dataset(out_);
      ASSERT_EQ(dataset.count(), 5);
      for (int64_t i = 0; i < 5; ++i) {
        const auto& [text, domain] = small_[static_cast<size_t>(i)];
        std::vector<int32_t> expected = encode_bytes(text);
        expected.insert(expected.begin(), 0);
        expected.push_back(1);
        EXPECT_EQ(tokens_of(dataset, i), expected);
        EXPECT_EQ(dataset.domain_names()[static_cast<size_t>(dataset.domain(i))], domain);
        EXPECT_EQ(dataset.text_bytes(i), static_cast<int64_t>(text.size()));
      }
      int32_t part[2];
      dataset.copy_tokens(0, 1, 2, part);
      EXPECT_THAT(part, ElementsAre(3 + 'o', 3 + 'n'));
    }
  }
}

TEST_F(Shards, TotalsAreCountedPerDomain) {
  write_small();
  const Dataset dataset(out_);
  EXPECT_EQ(dataset.info().vocab_size, 259);
  EXPECT_EQ(dataset.info().bos_id, 0);
  EXPECT_EQ(dataset.info().eos_id, 1);
  EXPECT_EQ(dataset.info().tokenizer_fingerprint, 0x1234u);
  EXPECT_THAT(dataset.info().domains,
              ElementsAre(DomainTotals{.name = "code", .documents = 2, .tokens = 8, .bytes = 4},
                          DomainTotals{.name = "prose", .documents = 3, .tokens = 38, .bytes = 32}));
  EXPECT_EQ(dataset.info().documents(), 5);
  EXPECT_EQ(dataset.info().tokens(), 46);
  EXPECT_EQ(dataset.info().bytes(), 36);
  EXPECT_EQ(read_file(out_ / "tokenizer.json"), "{}");
}

TEST_F(Shards, DocumentsHaveNoBosOrEosWhereTheTokenizerHasNone) {
  DatasetWriter writer(out_, {.vocab_size = 259, .domains = {}});
  writer.add_document(encode_bytes("ab"), writer.add_domain("d"), 2);
  writer.finish();
  EXPECT_THAT(tokens_of(Dataset(out_), 0), ElementsAre(3 + 'a', 3 + 'b'));
}

TEST_F(Shards, NothingIsLeftWithoutFinishOrWhenTheDiskIsFull) {
  {
    const DatasetWriter writer(out_, info());
    write_file(writer.temporary_folder() / "tokenizer.json", "{}");
  }
  EXPECT_THAT(folder_.files(), IsEmpty());
  write_small();
  int64_t bytes = 0;
  for (const auto& [name, content] : contents(out_)) bytes += static_cast<int64_t>(content.size());
  fs::remove_all(out_);
  for (const int64_t room : {int64_t{0}, int64_t{100}, bytes / 2, bytes - 1}) {
    const std::string error = error_of<Error>([&] {
      const FullDisk full(room);
      write_small();
    });
    EXPECT_THAT(error, HasSubstr("No space left on device"));
    EXPECT_FALSE(fs::exists(out_));
    EXPECT_THAT(folder_.files(), IsEmpty());
  }
  write_small();
  EXPECT_EQ(Dataset(out_).count(), 5);
}

TEST_F(Shards, AnExistingFolderIsKeptUnlessItIsEmpty) {
  make_folder(out_);
  write_small();
  EXPECT_EQ(error_of<Error>([&] { DatasetWriter(out_, info()); }),
            out_.string() + " exists already; remove it or choose another folder");
  EXPECT_EQ(Dataset(out_).count(), 5);
}

TEST_F(Shards, BytesOfADocumentAreThoseThatItsTargetsStandFor) {
  DatasetWriter writer(out_, info());
  const int32_t domain = writer.add_domain("d");
  writer.add_document(encode_bytes("abc"), domain, 3);
  writer.add_document(encode_bytes("abc"), domain, 3, 2);
  writer.add_document(encode_bytes("a"), domain, 1, 0);
  writer.finish();
  const Dataset dataset(out_);
  EXPECT_EQ(dataset.text_bytes(0), 3);
  EXPECT_EQ(dataset.text_bytes(1), 2);
  EXPECT_EQ(dataset.text_bytes(2), 0);
  EXPECT_EQ(dataset.info().bytes(), 7) << "the text's own size";
}

TEST_F(Shards, SeveralFoldersAreReadAsOneWithTheirWeights) {
  const auto write = [&](const std::string& name, const std::vector<std::string>& texts, const std::string& domain) {
    DatasetWriter writer(folder_ / name, info(), 10);
    const int32_t common = writer.add_domain("common"), own = writer.add_domain(domain);
    for (size_t i = 0; i < texts.size(); ++i) {
      writer.add_document(encode_bytes(texts[i]), i == 0 ? common : own, static_cast<int64_t>(texts[i].size()));
    }
    writer.finish();
  };
  write("a", {"one", "two", "three"}, "a");
  write("b", {"four", "five"}, "b");
  const auto list = [&](double a, double b) {
    return weighted_paths_text({{(folder_ / "a").string(), a}, {(folder_ / "b").string(), b}});
  };
  const Dataset both(list(3, 1)), a((folder_ / "a").string()), b((folder_ / "b").string());
  EXPECT_EQ(both.count(), 5);
  EXPECT_EQ(both.folder(), folder_ / "a");
  EXPECT_THAT(both.domain_names(), ElementsAre("common", "a", "b"));
  for (int64_t d = 0; d < 5; ++d) {
    const Dataset& part = d < 3 ? a : b;
    const int64_t own = d < 3 ? d : d - 3;
    EXPECT_EQ(tokens_of(both, d), tokens_of(part, own));
    EXPECT_EQ(both.text_bytes(d), part.text_bytes(own));
    EXPECT_EQ(both.domain_names()[static_cast<size_t>(both.domain(d))],
              part.domain_names()[static_cast<size_t>(part.domain(own))]);
  }
  EXPECT_EQ(both.info().tokens(), a.info().tokens() + b.info().tokens());
  EXPECT_EQ(both.info().domains[0].documents, 2);
  ASSERT_EQ(both.parts().size(), 2u);
  EXPECT_EQ(both.parts()[1].documents, 2);
  EXPECT_EQ(both.parts()[0].weight, 3);
  EXPECT_TRUE(a.parts().empty());
  EXPECT_EQ(Dataset(list(6, 2)).fingerprint(), both.fingerprint()) << "shares, not sums";
  EXPECT_NE(Dataset(list(1, 1)).fingerprint(), both.fingerprint());
  EXPECT_NE(a.fingerprint(), both.fingerprint());
  {
    DatasetWriter other(folder_ / "c", info(300));
    other.add_document(encode_bytes("x"), other.add_domain("d"), 1);
    other.finish();
  }
  EXPECT_THAT(error_of<Error>([&] {
                Dataset dataset(weighted_paths_text({{(folder_ / "a").string(), 1}, {(folder_ / "c").string(), 1}}));
              }),
              HasSubstr("different tokenizers"));
}

TEST_F(Shards, AFolderOfAnotherNameIsNeverTouched) {
  make_folder(out_.string() + ".tmp");
  write_file(out_.string() + ".tmp/notes.txt", "precious");
  write_small();
  EXPECT_THAT(folder_.files(), ElementsAre("dataset.tmp/notes.txt", "dataset/dataset.json", "dataset/tokenizer.json",
                                           "dataset/tokens-00000.bin", "dataset/tokens-00001.bin"));
}

TEST_F(Shards, TheFingerprintIsOfTheContentAndNotOfItsSums) {
  using Ids = std::vector<int32_t>;
  const auto fingerprint = [&](const std::vector<Ids>& documents, int64_t shard_tokens = 1 << 20) {
    const fs::path folder = folder_ / "one";
    DatasetWriter writer(folder, info(), shard_tokens);
    const int32_t domain = writer.add_domain("d");
    for (const Ids& ids : documents) writer.add_document(ids, domain, 7);
    writer.finish();
    const uint64_t stored = Dataset(folder).fingerprint();
    // The folder of a version that did not write it down gives the same.
    std::string text = read_file(folder / "dataset.json");
    const size_t begin = text.find("  \"content_fingerprint\"");
    text.erase(begin, text.find('\n', begin) + 1 - begin);
    write_file(folder / "dataset.json", text);
    EXPECT_EQ(Dataset(folder).fingerprint(), stored);
    fs::remove_all(folder);
    return stored;
  };
  const uint64_t one = fingerprint({{3, 4}, {5, 6, 7}});
  EXPECT_EQ(fingerprint({{3, 4}, {5, 6, 7}}), one);
  EXPECT_EQ(fingerprint({{3, 4}, {5, 6, 7}}, 1), one) << "shards do not matter";
  EXPECT_NE(fingerprint({{5, 6, 7}, {3, 4}}), one) << "the order does";
  EXPECT_NE(fingerprint({{3, 4}, {5, 7, 6}}), one);
  EXPECT_NE(fingerprint({{3, 4, 5}, {6, 7}}), one) << "and so do the ends";
}

TEST_F(Shards, MarksSayWhichTokensAreLearned) {
  using Ids = std::vector<int32_t>;
  using Marks = std::vector<uint8_t>;
  const std::vector<std::pair<Ids, Marks>> conversations = {
      {{3, 4, 5}, {0, 1, 1}}, {{6}, {1}}, {{7, 8, 9, 10, 11}, {0, 0, 1, 0, 1}}};
  const auto write = [&](const std::string& name, const std::vector<std::pair<Ids, Marks>>& documents,
                         int64_t shard_tokens) {
    DatasetWriter writer(folder_ / name, info(), shard_tokens);
    const int32_t domain = writer.add_domain("d");
    for (const auto& [ids, marks] : documents) writer.add_marked(ids, marks, domain, 9, 5);
    writer.finish();
    return (folder_ / name).string();
  };
  const auto marks_of = [](const Dataset& dataset, int64_t document) {
    Marks marks(static_cast<size_t>(dataset.length(document)));
    dataset.copy_marks(document, 0, dataset.length(document), marks.data());
    return marks;
  };
  for (const int64_t shard_tokens : {int64_t{1}, int64_t{4}, int64_t{1000}}) {
    const Dataset dataset(write(fmt::format("marked-{}", shard_tokens), conversations, shard_tokens));
    ASSERT_TRUE(dataset.has_marks());
    ASSERT_EQ(dataset.count(), 3);
    for (int64_t d = 0; d < 3; ++d) {
      EXPECT_EQ(tokens_of(dataset, d), conversations[static_cast<size_t>(d)].first) << "neither BOS nor EOS is added";
      EXPECT_EQ(marks_of(dataset, d), conversations[static_cast<size_t>(d)].second);
      EXPECT_EQ(dataset.text_bytes(d), 5);
    }
    uint8_t part[2];
    dataset.copy_marks(2, 1, 2, part);
    EXPECT_THAT(part, ElementsAre(0, 1));
    dataset.check_content();
  }
  const Dataset one(write("one", conversations, 4)), same(write("same", conversations, 1000));
  EXPECT_EQ(one.fingerprint(), same.fingerprint());
  auto changed = conversations;
  changed[2].second[3] = 1;
  EXPECT_NE(Dataset(write("changed", changed, 4)).fingerprint(), one.fingerprint());

  write_small();
  const Dataset mixed(weighted_paths_text({{out_.string(), 1}, {(folder_ / "one").string(), 1}}));
  EXPECT_FALSE(Dataset(out_.string()).has_marks());
  EXPECT_TRUE(mixed.has_marks());
  EXPECT_EQ(marks_of(mixed, 0), Marks(5, 1)) << "all of a text is learned";
  EXPECT_EQ(marks_of(mixed, 5), conversations[0].second);

  const fs::path shard = folder_ / "one" / "tokens-00000.bin";
  std::string bytes = read_file(shard);
  write_file(shard, bytes.substr(0, bytes.size() - 8));
  EXPECT_THAT(error_of<Error>([&] { Dataset dataset((folder_ / "one").string()); }), HasSubstr("cut short or damaged"));
  bytes[8] = 3;
  write_file(shard, bytes);
  EXPECT_THAT(error_of<Error>([&] { Dataset dataset((folder_ / "one").string()); }),
              HasSubstr("has format version 3, expected 1 or 2"));
}

TEST_F(Shards, IdsOutsideTheVocabularyAreRefused) {
  DatasetWriter writer(out_, info());
  const int32_t domain = writer.add_domain("d");
  for (const int32_t id : {-1, 259}) {
    const std::vector<int32_t> ids = {5, id};
    EXPECT_EQ(error_of<Error>([&] { writer.add_document(ids, domain, 1); }),
              fmt::format("the tokenizer gave the id {}, but its vocabulary has 259 ids (0 to 258)", id));
  }
}

TEST_F(Shards, AFingerprintFollowsTheFilesThatDecideTheIds) {
  const fs::path file = text_file("tokenizer.json", "{}");
  EXPECT_EQ(tokenizer_fingerprint(file), tokenizer_fingerprint(folder_.path()));
  const uint64_t before = tokenizer_fingerprint(file);
  text_file("tokenizer_config.json", "{}");
  EXPECT_EQ(tokenizer_fingerprint(folder_.path()), before);
  text_file("tokenizer.json", "{ }");
  EXPECT_NE(tokenizer_fingerprint(file), before);
  const TemporaryFolder pair;
  write_file(pair / "vocab.json", "{}");
  write_file(pair / "merges.txt", "a b");
  const uint64_t first = tokenizer_fingerprint(pair.path());
  write_file(pair / "merges.txt", "a c");
  EXPECT_NE(tokenizer_fingerprint(pair.path()), first);
  EXPECT_THAT(error_of<Error>([&] { tokenizer_fingerprint(folder_ / "none"); }), HasSubstr("none"));
}

TEST_F(Shards, AFolderWithoutDatasetIsNamed) {
  EXPECT_EQ(error_of<Error>([&] { Dataset dataset(folder_.path()); }),
            folder_.path().string() + " is not a dataset: it has no dataset.json; make one with `moe data --out " +
                folder_.path().string() + " ...`");
}

TEST_F(Shards, DamagedFilesAreNamed) {
  write_small();
  const fs::path shard = out_ / "tokens-00000.bin";
  const std::string valid = read_file(shard);
  const auto refusal = [&](const std::string& bytes) {
    write_file(shard, bytes);
    const std::string error = error_of<Error>([&] { Dataset dataset(out_); });
    EXPECT_THAT(error, HasSubstr(shard.string()));
    return error;
  };
  EXPECT_THAT(refusal(""), HasSubstr("is not a token shard"));
  std::string magic = valid;
  magic[0] = 'x';
  EXPECT_THAT(refusal(magic), HasSubstr("is not a token shard"));
  std::string version = valid;
  version[8] = 9;
  EXPECT_THAT(refusal(version), HasSubstr("has format version 9, expected 1"));
  for (size_t size = 16; size < valid.size(); ++size) refusal(valid.substr(0, size));
  EXPECT_THAT(refusal(valid.substr(0, valid.size() - 8)), HasSubstr("is cut short or damaged"));
  std::string begins = valid;
  begins[16 + 64 + 8] = 99;  // the table behind 31 two-byte ids and two bytes of padding
  EXPECT_THAT(refusal(begins), HasSubstr("its table of documents is inconsistent"));
  std::string fingerprint = valid;
  fingerprint[valid.size() - 16] = 'x';
  EXPECT_THAT(refusal(fingerprint), HasSubstr("made with another tokenizer"));
  std::string text_bytes = valid;
  text_bytes[16 + 64 + 6 * 8 + 2] = 1;  // the first document's bytes, behind the six begins: 65536 more
  write_file(shard, text_bytes);
  EXPECT_THAT(error_of<Error>([&] { Dataset dataset(out_); }),
              HasSubstr("38 tokens and 65568 bytes; make the dataset"));
  std::string negative = valid;
  negative[16 + 64 + 6 * 8 + 7] = '\xff';
  EXPECT_THAT(refusal(negative), HasSubstr("its table of documents is inconsistent"));
  std::string id = valid;
  id[16] = '\xff';
  id[17] = '\xff';
  write_file(shard, id);
  EXPECT_THAT(error_of<Error>([&] { tokens_of(Dataset(out_), 0); }), HasSubstr("it holds the id 65535"));
}

TEST_F(Shards, ADescriptionThatDoesNotFitItsShardsIsNamed) {
  write_small();
  const fs::path path = out_ / "dataset.json";
  const std::string valid = read_file(path);
  const auto refusal = [&](const std::string& from, const std::string& to) {
    std::string text = valid;
    text.replace(text.find(from), from.size(), to);
    write_file(path, text);
    const std::string error = error_of<Error>([&] { Dataset dataset(out_); });
    EXPECT_THAT(error, HasSubstr("dataset.json"));
    return error;
  };
  EXPECT_THAT(refusal("\"version\": 1", "\"version\": 2"), HasSubstr("has format version 2, expected 1"));
  EXPECT_THAT(
      refusal("\"documents\": 2,", "\"documents\": 7,"),
      HasSubstr("domain code has 7 documents, 8 tokens and 4 bytes, but the shards hold 2 documents, 8 tokens"));
  EXPECT_THAT(refusal("\"tokens\": 8", "\"tokens\": 9"), HasSubstr("but the shards hold 2 documents, 8 tokens"));
  EXPECT_THAT(refusal("\"vocab_size\"", "\"vocabulary\""), HasSubstr("vocab_size"));
  EXPECT_THAT(refusal("0000000000001234", "12x"), HasSubstr("expected 16 hexadecimal digits"));
  EXPECT_THAT(refusal("{", "["), HasSubstr("dataset.json"));
}

}  // namespace
}  // namespace moe
