#include "formats/gguf.h"

#include <cstring>
#include <fstream>
#include <functional>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/gguf_writer.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using test::FullDisk;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// The bytes of a file, part by part.
class Bytes {
 public:
  template <class T>
  Bytes& add(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  Bytes& word(std::string_view text) {
    add(uint64_t{text.size()});
    text_ += text;
    return *this;
  }
  Bytes& raw(std::string_view text) {
    text_ += text;
    return *this;
  }
  Bytes& pad(size_t unit = 32) {
    while (text_.size() % unit != 0) text_ += '\0';
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

Bytes start(uint64_t tensors, uint64_t entries, uint32_t version = 3) {
  Bytes bytes;
  bytes.raw("GGUF").add(version).add(tensors).add(entries);
  return bytes;
}

Bytes& info(Bytes& bytes, std::string_view name, std::vector<uint64_t> innermost_first, uint32_t type,
            uint64_t offset) {
  bytes.word(name).add(static_cast<uint32_t>(innermost_first.size()));
  for (const uint64_t size : innermost_first) bytes.add(size);
  return bytes.add(type).add(offset);
}

/// As write_file(), but nothing waits for the disk.
void put(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

/// The error's sentence, or nothing.
std::string outcome(const std::function<void()>& function) {
  try {
    function();
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

class Gguf : public testing::Test {
 protected:
  std::string refusal(const std::string& bytes) {
    put(path_, bytes);
    std::string error = outcome([&] { GgufFile file(path_); });
    if (error.empty()) return error;
    const size_t at = error.find(path_.string());
    EXPECT_NE(at, std::string::npos) << "the file is not named: " << error;
    return at == std::string::npos ? error : error.replace(at, path_.string().size(), "FILE");
  }
  /// The error for two f32 tensors of 3 and 5 elements that begin at these offsets, with `data` bytes behind the
  /// header.
  std::string refusal_of_two(uint64_t a, uint64_t b, size_t data) {
    Bytes bytes = start(2, 0);
    info(bytes, "a", {3}, 0, a);
    info(bytes, "b", {5}, 0, b).pad();
    return refusal(bytes.text() + std::string(data, '\1'));
  }

  TemporaryFolder folder_;
  fs::path path_ = folder_ / "m.gguf";
};

std::vector<GgufEntry> some_metadata() {
  GgufArray nested{.kind = GgufKind::array, .values = {}};
  nested.values.push_back(GgufValue::texts({"a", "b"}));
  nested.values.push_back({GgufKind::array, GgufArray{GgufKind::u8, {{GgufKind::u8, uint64_t{7}}}}});
  return {{"general.architecture", GgufValue::text("llama")},
          {"u8", {GgufKind::u8, uint64_t{255}}},
          {"i8", {GgufKind::i8, int64_t{-128}}},
          {"u16", {GgufKind::u16, uint64_t{65535}}},
          {"i16", {GgufKind::i16, int64_t{-32768}}},
          {"u32", GgufValue::u32(4294967295u)},
          {"i32", GgufValue::i32(-5)},
          {"u64", {GgufKind::u64, ~uint64_t{0}}},
          {"i64", {GgufKind::i64, std::numeric_limits<int64_t>::min()}},
          {"f32", GgufValue::f32(0.1f)},
          {"f64", {GgufKind::f64, 0.1}},
          {"flag", GgufValue::boolean(true)},
          {"texts", GgufValue::texts({"", "Größe", "模型"})},
          {"nested", {GgufKind::array, nested}},
          {"nothing", {GgufKind::array, GgufArray{GgufKind::f32, {}}}}};
}

std::string data_of(size_t bytes, char first) {
  std::string data(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) data[i] = static_cast<char>(first + static_cast<char>(i * 7));
  return data;
}

const std::vector<GgufWriter::Declaration> kTensors = {{"f", DType::f32, {3}},          {"none", DType::f32, {0, 4}},
                                                       {"scalar", DType::f32, {}},      {"h", DType::f16, {2, 3}},
                                                       {"q", DType::q4_0, {2, 2, 64}},  {"k", DType::q6_k, {1, 512}},
                                                       {"t", DType::i32, {1, 1, 1, 2}}, {"b", DType::bf16, {5}}};

size_t bytes_of(const GgufWriter::Declaration& tensor) {
  int64_t elements = 1;
  for (const int64_t size : tensor.shape) elements *= size;
  return static_cast<size_t>(moe::bytes_of(tensor.dtype, elements));
}

void write_some(const fs::path& path, const std::vector<GgufEntry>& metadata, size_t piece = 1000) {
  GgufWriter writer(path, metadata, kTensors);
  for (const auto& tensor : kTensors) {
    const std::string data = data_of(bytes_of(tensor), tensor.name[0]);
    for (size_t at = 0; at < data.size(); at += piece) {
      writer.write(tensor.name, data.data() + at, std::min(piece, data.size() - at));
    }
  }
  writer.commit();
}

TEST_F(Gguf, WhatIsWrittenReadsBack) {
  auto metadata = some_metadata();
  for (const uint32_t alignment : {32u, 8u, 1024u}) {
    auto with_alignment = metadata;
    if (alignment != 32) with_alignment.push_back({"general.alignment", GgufValue::u32(alignment)});
    write_some(path_, with_alignment);
    const GgufFile file(path_);
    EXPECT_EQ(file.version(), 3u);
    EXPECT_EQ(file.alignment(), alignment);
    EXPECT_EQ(file.metadata(), with_alignment);
    ASSERT_EQ(file.tensors().size(), kTensors.size());
    for (size_t i = 0; i < kTensors.size(); ++i) {
      const GgufTensor& tensor = file.tensors()[i];
      EXPECT_EQ(tensor.name, kTensors[i].name);
      EXPECT_EQ(tensor.shape, kTensors[i].shape);
      ASSERT_NE(tensor.type, nullptr);
      EXPECT_EQ(tensor.type->dtype, kTensors[i].dtype);
      const std::string expected = data_of(bytes_of(kTensors[i]), tensor.name[0]);
      ASSERT_EQ(tensor.bytes, expected.size());
      EXPECT_EQ(std::memcmp(tensor.data, expected.data(), expected.size()), 0) << tensor.name;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data) % std::min(alignment, 4096u), 0u);
      EXPECT_EQ(file.find(tensor.name), &tensor);
    }
    EXPECT_EQ(file.tensors()[4].text(), "Q4_0 [2, 2, 64]");
  }
}

TEST_F(Gguf, TheSameInputGivesTheSameBytesInAnyPieces) {
  write_some(path_, some_metadata(), 1);
  write_some(folder_ / "n.gguf", some_metadata(), 100000);
  EXPECT_EQ(read_file(path_), read_file(folder_ / "n.gguf"));
}

TEST_F(Gguf, ByHandOfVersionTwo) {
  Bytes bytes = start(1, 2, 2);
  bytes.word("general.alignment").add(uint32_t{4}).add(uint32_t{64});
  bytes.word("general.name").add(uint32_t{8}).word("x");
  info(bytes, "w", {2, 3}, 0, 0).pad(64).raw(std::string(24, '\3'));
  put(path_, bytes.text());
  const GgufFile file(path_);
  EXPECT_EQ(file.alignment(), 64);
  EXPECT_EQ(file.text("general.name"), "x");
  EXPECT_THAT(file.tensors()[0].shape, ElementsAre(3, 2));
  EXPECT_EQ(file.tensors()[0].bytes, 24u);
}

TEST_F(Gguf, AFileWithoutTensorsNeedsNoData) {
  Bytes bytes = start(0, 1);
  bytes.word("k").add(uint32_t{0}).add(uint8_t{9});
  put(path_, bytes.text());
  EXPECT_THAT(GgufFile(path_).tensors(), IsEmpty());
  EXPECT_EQ(GgufFile(path_).integer("k"), 9);
  EXPECT_THAT(refusal(bytes.text() + std::string(64, 'x')), HasSubstr("belong to no tensor"));
}

TEST_F(Gguf, ValuesAreAskedForByKind) {
  write_some(path_, some_metadata());
  const GgufFile file(path_);
  EXPECT_EQ(file.integer("i8"), -128);
  EXPECT_EQ(file.integer("u32"), 4294967295);
  EXPECT_THAT(error_of<Error>([&] { file.integer("u64"); }), HasSubstr("u64 is u64 18446744073709551615, expected"));
  EXPECT_THAT(error_of<Error>([&] { file.integer("f32"); }), HasSubstr("f32 is f32 0.1"));
  EXPECT_THAT(error_of<Error>([&] { file.text("texts"); }), HasSubstr("texts is an array of 3 texts, expected a text"));
  EXPECT_THAT(error_of<Error>([&] { file.text("other"); }), HasSubstr("the metadata has no other"));
}

TEST_F(Gguf, OtherFilesAndOtherVersionsAreRefused) {
  EXPECT_EQ(refusal(""), "FILE is no GGUF file: it does not begin with \"GGUF\"");
  EXPECT_EQ(refusal("GGUF"), "FILE is no GGUF file: it does not begin with \"GGUF\"");
  EXPECT_EQ(refusal("PK\3\4............"), "FILE is no GGUF file: it does not begin with \"GGUF\"");
  EXPECT_THAT(refusal(start(0, 0, 1).text()), HasSubstr("GGUF of version 1, expected 2 or 3"));
  EXPECT_THAT(refusal(start(0, 0, 4).text()), HasSubstr("GGUF of version 4, expected 2 or 3"));
  EXPECT_THAT(refusal(start(0, 0, 0x03000000).text()), HasSubstr("big-endian"));
}

TEST_F(Gguf, CountsThatTheFileCannotHoldAreRefused) {
  EXPECT_THAT(refusal(start(uint64_t{1} << 60, 0).text()), HasSubstr("announces 1152921504606846976 tensors"));
  EXPECT_THAT(refusal(start(0, ~uint64_t{0}).text()), HasSubstr("metadata entries"));
  Bytes text = start(0, 1);
  text.word("k").add(uint32_t{8}).add(~uint64_t{0}).raw("abc");
  EXPECT_THAT(refusal(text.text()), HasSubstr("cut short"));
  Bytes array = start(0, 1);
  array.word("k").add(uint32_t{9}).add(uint32_t{6}).add(uint64_t{1} << 40);
  EXPECT_THAT(refusal(array.text()), HasSubstr("elements of k"));
  Bytes deep = start(0, 1);
  deep.word("k").add(uint32_t{9});
  for (int i = 0; i < 1000; ++i) deep.add(uint32_t{9}).add(uint64_t{1});
  EXPECT_THAT(refusal(deep.text()), HasSubstr("an array in arrays"));
}

TEST_F(Gguf, DamagedMetadataIsRefusedByKey) {
  Bytes twice = start(0, 2);
  twice.word("k").add(uint32_t{0}).add(uint8_t{9}).word("k").add(uint32_t{0}).add(uint8_t{9});
  EXPECT_EQ(refusal(twice.text()), "FILE is damaged: it has the key k twice");
  Bytes kind = start(0, 1);
  kind.word("k").add(uint32_t{13}).add(uint64_t{0});
  EXPECT_EQ(refusal(kind.text()), "FILE: k has the value type 13, expected one of 0 to 12");
  Bytes flag = start(0, 1);
  flag.word("k").add(uint32_t{7}).add(uint8_t{2});
  EXPECT_THAT(refusal(flag.text()), HasSubstr("k is a boolean of 2"));
  Bytes key = start(0, 1);
  key.word("\xff").add(uint32_t{0}).add(uint8_t{9});
  EXPECT_THAT(refusal(key.text()), HasSubstr("a metadata key is not UTF-8"));
  Bytes value = start(0, 1);
  value.word("k").add(uint32_t{8}).word("\xc3");
  EXPECT_THAT(refusal(value.text()), HasSubstr("k is not UTF-8"));
  for (const uint32_t alignment : {0u, 4u, 48u, 1u << 21}) {
    Bytes bytes = start(0, 1);
    bytes.word("general.alignment").add(uint32_t{4}).add(alignment);
    EXPECT_THAT(refusal(bytes.text()), HasSubstr("general.alignment is")) << alignment;
  }
}

TEST_F(Gguf, DamagedTensorsAreRefusedByName) {
  const auto one = [&](std::string_view name, std::vector<uint64_t> shape, uint32_t type, uint64_t offset = 0) {
    Bytes bytes = start(1, 0);
    info(bytes, name, std::move(shape), type, offset).pad();
    return refusal(bytes.text() + std::string(4096, '\1'));
  };
  EXPECT_THAT(one("w", {31}, 2), HasSubstr("tensor w: Q4_0 [31] has rows of 31 elements, expected whole blocks of 32"));
  EXPECT_THAT(one("w", {128}, 12), HasSubstr("expected whole blocks of 256"));
  EXPECT_THAT(one("w", {3}, 99), HasSubstr("its type has the number 99"));
  EXPECT_THAT(one("w", {1, 1, 1, 1, 1}, 0), HasSubstr("it has 5 axes"));
  EXPECT_THAT(one("w", {uint64_t{1} << 40, uint64_t{1} << 40}, 0), HasSubstr("more bytes than 62 bits count"));
  EXPECT_THAT(one("w", {~uint64_t{0}}, 0), HasSubstr("more than 63 bits count"));
  EXPECT_THAT(one("", {3}, 0), HasSubstr("its name has 0 bytes"));
  EXPECT_THAT(one(std::string(65, 'n'), {3}, 0), HasSubstr("its name has 65 bytes"));
  EXPECT_THAT(one("\xff", {3}, 0), HasSubstr("not UTF-8"));
  EXPECT_THAT(one("w", {3}, 0, 16), HasSubstr("begins at byte 16 of the data, expected a multiple of 32"));
  EXPECT_THAT(one("w", {3}, 0, 32), HasSubstr("32 bytes before tensor w belong to none"));
  EXPECT_THAT(one("w", {3}, 0, ~uint64_t{31}), HasSubstr("belong to none"));
  EXPECT_THAT(one("w", {3}, 0), HasSubstr("bytes at its end belong to no tensor"));
  Bytes twice = start(2, 0);
  info(twice, "w", {8}, 0, 0);
  info(twice, "w", {8}, 0, 32).pad();
  EXPECT_THAT(refusal(twice.text() + std::string(64, '\1')), HasSubstr("it has the tensor w twice"));
}

TEST_F(Gguf, TensorsFillTheDataWithoutOverlapAndGap) {
  EXPECT_EQ(refusal_of_two(0, 32, 52), "");
  EXPECT_EQ(refusal_of_two(0, 32, 64), "");
  EXPECT_EQ(refusal_of_two(32, 0, 44), "");
  EXPECT_THAT(refusal_of_two(0, 0, 64), HasSubstr("overlaps another tensor's"));
  EXPECT_THAT(refusal_of_two(0, 64, 96), HasSubstr("before tensor b belong to none"));
  EXPECT_THAT(refusal_of_two(0, 32, 51), HasSubstr("is cut short: tensor b ends at byte 52"));
  EXPECT_THAT(refusal_of_two(0, 32, 65), HasSubstr("bytes at its end belong to no tensor"));
}

TEST_F(Gguf, TypesThatAreOnlyKnownBySizeAreListed) {
  Bytes bytes = start(1, 0);
  info(bytes, "w", {256, 2}, 10, 0).pad();
  put(path_, bytes.text() + std::string(168, '\1'));
  const GgufFile file(path_);
  EXPECT_EQ(file.tensors()[0].type, nullptr);
  EXPECT_EQ(file.tensors()[0].text(), "Q2_K [2, 256]");
}

// Cut anywhere, a file is refused. With a byte changed anywhere it is refused, or differs in what it says, or in data
// or padding alone.
TEST_F(Gguf, EveryCutIsRefusedAndEveryChangedByteOfTheHeaderIsSeen) {
  write_some(path_, some_metadata());
  const std::string whole = read_file(path_);
  const GgufFile original(path_);
  const size_t data_begin = whole.find(data_of(12, 'f'));
  ASSERT_NE(data_begin, std::string::npos);
  const fs::path other = folder_ / "other.gguf";
  const size_t last = whole.size() - 32 + 10;  // the end of the last tensor
  for (size_t size = 0; size < last; size += size < data_begin ? 1 : 13) {
    put(other, whole.substr(0, size));
    EXPECT_NE(outcome([&] { GgufFile file(other); }), "") << size;
  }
  const auto says_the_same = [&](const GgufFile& file) {
    if (file.metadata() != original.metadata() || file.tensors().size() != original.tensors().size()) return false;
    if (file.version() != original.version()) return false;
    for (size_t i = 0; i < file.tensors().size(); ++i) {
      const GgufTensor &a = file.tensors()[i], &b = original.tensors()[i];
      if (a.name != b.name || a.type != b.type || a.shape != b.shape) return false;
    }
    return true;
  };
  size_t header = data_begin;
  while (whole[header - 1] == '\0') --header;  // padding, and maybe the end of the last offset
  for (size_t at = 0; at < header; ++at) {
    for (const int bit : {0, 3, 7}) {
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ (1 << bit));
      put(other, changed);
      bool same = false;
      const std::string error = outcome([&] { same = says_the_same(GgufFile(other)); });
      EXPECT_TRUE(!error.empty() || !same) << "byte " << at << ", bit " << bit << " is not seen";
    }
  }
}

TEST_F(Gguf, AFullDiskOrNoCommitLeavesNoFile) {
  {
    GgufWriter writer(path_, some_metadata(), kTensors);
    EXPECT_THROW(writer.commit(), std::logic_error);
    EXPECT_THROW(writer.write("h", "x", 1), std::logic_error);
    EXPECT_THROW(writer.write("f", "0123456789abc", 13), std::logic_error);
  }
  EXPECT_THAT(folder_.files(), IsEmpty());
  {
    const FullDisk full(100);
    EXPECT_THROW(write_some(path_, some_metadata()), Error);
  }
  EXPECT_THAT(folder_.files(), IsEmpty());
}

/// Files of a model in `count` parts; `change` may spoil the metadata of part `number`.
void write_split(const TemporaryFolder& folder, uint32_t count,
                 const std::function<void(uint32_t, std::vector<GgufEntry>&, std::string& tensor)>& change = {}) {
  for (uint32_t number = 0; number < count; ++number) {
    std::vector<GgufEntry> metadata = {{"split.no", {GgufKind::u16, uint64_t{number}}},
                                       {"split.count", {GgufKind::u16, uint64_t{count}}},
                                       {"split.tensors.count", GgufValue::i32(static_cast<int32_t>(count))}};
    std::string tensor = fmt::format("w{}", number);
    if (change) change(number, metadata, tensor);
    GgufWriter writer(folder / fmt::format("m-{:05}-of-{:05}.gguf", number + 1, count), metadata,
                      {{tensor, DType::f32, {1}}});
    writer.write(tensor, "abcd", 4);
    writer.commit();
  }
}

TEST_F(Gguf, SplitFilesAreReadTogether) {
  write_split(folder_, 3);
  const auto files = open_gguf(folder_ / "m-00001-of-00003.gguf");
  ASSERT_EQ(files.size(), 3u);
  EXPECT_NE(files[2].find("w2"), nullptr);
  EXPECT_THAT(error_of<Error>([&] { open_gguf(folder_ / "m-00002-of-00003.gguf"); }),
              HasSubstr("file 2 of 3; give the first, m-00001-of-00003.gguf"));
  fs::remove(folder_ / "m-00002-of-00003.gguf");
  EXPECT_THAT(error_of<Error>([&] { open_gguf(folder_ / "m-00001-of-00003.gguf"); }), HasSubstr("m-00002-of-00003"));
  fs::copy(folder_ / "m-00003-of-00003.gguf", folder_ / "m-00002-of-00003.gguf");
  EXPECT_THAT(error_of<Error>([&] { open_gguf(folder_ / "m-00001-of-00003.gguf"); }),
              HasSubstr("it is file 3 of 3, expected 2 of 3"));
  fs::rename(folder_ / "m-00001-of-00003.gguf", folder_ / "n.gguf");
  EXPECT_THAT(error_of<Error>([&] { open_gguf(folder_ / "n.gguf"); }), HasSubstr("ends in -00001-of-00003.gguf"));
}

TEST_F(Gguf, SplitFilesThatDoNotFitAreRefused) {
  const fs::path first = folder_ / "m-00001-of-00003.gguf";
  write_split(folder_, 3, [](uint32_t, auto&, std::string& tensor) { tensor = "same"; });
  EXPECT_THAT(error_of<Error>([&] { open_gguf(first); }), HasSubstr("the tensor same is in"));
  write_split(folder_, 3, [](uint32_t, auto& metadata, auto&) { metadata[2].value = GgufValue::i32(4); });
  EXPECT_THAT(error_of<Error>([&] { open_gguf(first); }), HasSubstr("have 3 tensors together, expected 4"));
  write_split(folder_, 3, [](uint32_t number, auto& metadata, auto&) {
    if (number == 0) metadata[0].value = GgufValue::u32(9);
  });
  EXPECT_THAT(error_of<Error>([&] { open_gguf(first); }), HasSubstr("the file is damaged"));
}

}  // namespace
}  // namespace moe
