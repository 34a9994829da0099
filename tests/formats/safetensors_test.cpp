#include "formats/safetensors.h"

#include <cstring>
#include <fstream>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"

namespace moe {
namespace {

using test::error_of;
using test::FullDisk;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string file_with(std::string_view header, std::string_view data) {
  const uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), 8);
  return bytes + std::string(header) + std::string(data);
}

class Safetensors : public testing::Test {
 protected:
  // The error for a file with this header and `data_bytes` zero bytes behind it, with the path taken out.
  std::string refusal(std::string_view header, size_t data_bytes) {
    return refusal_of_bytes(file_with(header, std::string(data_bytes, '\0')));
  }
  std::string refusal_of_bytes(std::string_view bytes) {
    write_file(path_, bytes);
    std::string error = error_of<Error>([&] { SafetensorsFile file(path_); });
    const size_t at = error.find(path_.string());
    EXPECT_NE(at, std::string::npos) << "the file is not named: " << error;
    return at == std::string::npos ? error : error.replace(at, path_.string().size(), "FILE");
  }

  TemporaryFolder folder_;
  fs::path path_ = folder_ / "m.safetensors";
};

constexpr const char* kTwoTensors =
    R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},"a":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}})";

TEST_F(Safetensors, ReadsNamesTypesShapesBytesAndMetadata) {
  write_file(path_, file_with(R"({"__metadata__":{"format":"pt","k":"v"},)" + std::string(kTwoTensors).substr(1),
                              std::string("\1\2\3\4", 4) + std::string("\0\0\x80\x3f\0\0\0\x40", 8)));
  const SafetensorsFile file(path_);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"k", "v"}}));
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[0].name, "a");
  EXPECT_EQ(file.tensors()[0].text(), "BF16 [2, 1]");
  const SafetensorsTensor* b = file.find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, "F32");
  EXPECT_THAT(b->shape, ElementsAre(2));
  EXPECT_EQ(b->bytes, 8u);
  float values[2];
  std::memcpy(values, b->data, 8);
  EXPECT_EQ(values[0], 1.0f);
  EXPECT_EQ(values[1], 2.0f);
  EXPECT_EQ(file.find("c"), nullptr);
}

TEST_F(Safetensors, ReadsScalarsEmptyTensorsAndManyAxes) {
  write_file(path_, file_with(R"({"s":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                              R"("e":{"dtype":"F32","shape":[0,7],"data_offsets":[8,8]},)"
                              R"("z":{"dtype":"F16","shape":[3,0],"data_offsets":[0,0]},)"
                              R"("m":{"dtype":"U8","shape":[1,1,1,1,1,2],"data_offsets":[8,10]}})",
                              std::string(10, '\0')));
  const SafetensorsFile file(path_);
  EXPECT_EQ(file.find("s")->elements(), 1);
  EXPECT_EQ(file.find("e")->elements(), 0);
  EXPECT_EQ(file.find("m")->shape.size(), 6u);
}

TEST_F(Safetensors, AFileWithoutTensorsIsLegal) {
  write_file(path_, file_with("{}", ""));
  EXPECT_THAT(SafetensorsFile(path_).tensors(), IsEmpty());
}

TEST_F(Safetensors, RefusesFilesThatAreCutShort) {
  EXPECT_EQ(refusal_of_bytes("abc"),
            "FILE is not a safetensors file: it has 3 bytes, and the header's length alone takes 8");
  EXPECT_EQ(
      refusal_of_bytes(std::string(8, '\x7f')),
      "FILE is not a safetensors file, or is cut short: it announces a header of 9187201950435737471 bytes and has 8 "
      "bytes in all");
  EXPECT_EQ(refusal(kTwoTensors, 11),
            "FILE: tensor b: its data ends at byte 12, but the file has 11 bytes of data; the file may be cut short");
}

TEST_F(Safetensors, RefusesHeadersThatAreNoJsonObject) {
  EXPECT_EQ(
      refusal("{\"a\":", 0),
      "FILE is not a safetensors file, or is damaged: its header is not valid JSON near byte 13: unexpected end of "
      "input; expected '[', '{', or a literal");
  EXPECT_EQ(
      refusal(std::string("{}\0\0", 4), 0),
      "FILE is not a safetensors file, or is damaged: its header is not valid JSON near byte 10: a NUL byte, which "
      "JSON does not allow; the file may be damaged");
  EXPECT_EQ(refusal("[1]", 0), "FILE is not a safetensors file: its header is not a JSON object");
  EXPECT_THAT(refusal("", 0), HasSubstr("not valid JSON"));
}

TEST_F(Safetensors, RefusesATensorNamedTwice) {
  EXPECT_EQ(
      refusal(
          R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
          1),
      "FILE is damaged: its header names \"a\" twice");
  EXPECT_THAT(refusal(R"({"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1),
              HasSubstr("names \"dtype\" twice"));
}

TEST_F(Safetensors, RefusesOverlapsGapsAndRemainders) {
  const auto two = [](int begin, int end) {
    return fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}},)"
                       R"("b":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}}})",
                       end - begin, begin, end);
  };
  EXPECT_EQ(refusal(two(3, 6), 6), "FILE: the data of tensor b overlaps another tensor's");
  EXPECT_EQ(refusal(two(0, 4), 4), "FILE: the data of tensor b overlaps another tensor's");
  EXPECT_EQ(refusal(two(5, 6), 6), "FILE: 1 bytes before tensor b belong to no tensor");
  EXPECT_EQ(refusal(two(4, 6), 9), "FILE: 3 bytes at its end belong to no tensor");
}

TEST_F(Safetensors, RefusesEntriesThatMakeNoSense) {
  const auto one = [&](std::string_view entry) { return refusal(fmt::format(R"({{"t":{}}})", entry), 8); };
  EXPECT_EQ(one("3"), "FILE: tensor t: its entry is 3, expected an object");
  EXPECT_EQ(one(R"({"shape":[2],"data_offsets":[0,8]})"), "FILE: tensor t: its entry has no \"dtype\"");
  EXPECT_EQ(one(R"({"dtype":"F32","data_offsets":[0,8]})"), "FILE: tensor t: its entry has no \"shape\"");
  EXPECT_EQ(one(R"({"dtype":"F32","shape":[2]})"), "FILE: tensor t: its entry has no \"data_offsets\"");
  EXPECT_EQ(one(R"({"dtype":"Q4","shape":[2],"data_offsets":[0,8]})"),
            "FILE: tensor t: the type \"Q4\" is not one that this program knows");
  EXPECT_EQ(one(R"({"dtype":7,"shape":[2],"data_offsets":[0,8]})"), "FILE: tensor t: \"dtype\" is 7, expected a name");
  EXPECT_EQ(one(R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})"),
            "FILE: tensor t: \"shape\" is 2, expected a list of sizes");
  EXPECT_EQ(one(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"),
            "FILE: tensor t: \"shape\" has the size -2, expected an integer of 0 or more");
  EXPECT_EQ(one(R"({"dtype":"F32","shape":[2.5],"data_offsets":[0,8]})"),
            "FILE: tensor t: \"shape\" has the size 2.5, expected an integer of 0 or more");
  EXPECT_EQ(one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"),
            "FILE: tensor t: F32 [3] needs 12 bytes, but its data_offsets give 8");
  EXPECT_EQ(one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"),
            "FILE: tensor t: its data ends at 0, before its beginning at 8");
  EXPECT_EQ(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})"),
            "FILE: tensor t: \"data_offsets\" is [0], expected [begin, end]");
  EXPECT_EQ(one(R"({"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,8]})"),
            "FILE: tensor t: the shape has more elements than 64 bits can count");
  EXPECT_THAT(refusal(R"({"__metadata__":{"a":1}})", 0), HasSubstr("__metadata__ \"a\" is 1, expected a string"));
  EXPECT_THAT(refusal(R"({"__metadata__":[]})", 0), HasSubstr("expected an object of strings"));
}

// Damaged files give an error or a file whose tensors all lie inside the mapping: never a crash.
TEST_F(Safetensors, SurvivesRandomDamage) {
  const std::string valid =
      file_with(R"({"__metadata__":{"format":"pt"},)" + std::string(kTwoTensors).substr(1), std::string(12, '\1'));
  std::mt19937 generator(7);
  int refused = 0;
  for (int round = 0; round < 1000; ++round) {
    std::string damaged = valid;
    for (int change = 0; change < 1 + round % 4; ++change) {
      damaged[generator() % damaged.size()] = static_cast<char>(generator());
    }
    if (round % 5 == 0) damaged.resize(generator() % damaged.size());
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << damaged;
    try {
      const SafetensorsFile file(path_);
      uint64_t sum = 0;
      for (const auto& tensor : file.tensors()) {
        for (size_t i = 0; i < tensor.bytes; ++i) sum += static_cast<uint64_t>(tensor.data[i]);
      }
      ASSERT_LE(sum, 12u * 255u);
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 500);
}

SafetensorsWriter::Declaration declare(std::string name, std::string dtype, std::vector<int64_t> shape) {
  return {std::move(name), std::move(dtype), std::move(shape)};
}

TEST_F(Safetensors, WritesWhatItReadsInAnyPieces) {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  SafetensorsWriter writer(path_, {declare("none", "F32", {0}), declare("w \"q\"", "F32", {2, 3}),
                                   declare("i", "U8", {4}), declare("last", "BF16", {0, 3})});
  writer.write("w \"q\"", values.data(), 4);
  writer.write("w \"q\"", values.data() + 1, 20);
  writer.write("i", "\1\0\0\0", 4);
  writer.commit();

  const SafetensorsFile file(path_);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  const View view = view_of(*file.find("w \"q\""));
  EXPECT_EQ(view.shape, (Shape{2, 3}));
  EXPECT_EQ(std::vector<float>(view.as<float>(), view.as<float>() + 6), values);
  EXPECT_EQ(view_of(*file.find("i")).as<uint8_t>()[0], 1);
  EXPECT_EQ(file.find("last")->bytes, 0u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.tensors().front().data) % 64, 0u);
}

TEST_F(Safetensors, TheSameTensorsGiveTheSameBytes) {
  const auto write = [&](const std::string& name) {
    SafetensorsWriter writer(folder_ / name, {declare("b", "F32", {1}), declare("a", "F32", {1})});
    const float value = 3;
    writer.write("b", &value, 4);
    writer.write("a", &value, 4);
    writer.commit();
    return read_file(folder_ / name);
  };
  const std::string bytes = write("first");
  EXPECT_EQ(bytes, write("second"));
  EXPECT_THAT(
      bytes.substr(8),
      testing::StartsWith(R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                          R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"));
}

TEST_F(Safetensors, AFullDiskLeavesNoFile) {
  const std::vector<float> values(1 << 20);
  const std::string error = error_of<Error>([&] {
    const FullDisk full(1 << 20);
    SafetensorsWriter writer(path_, {declare("w", "F32", {1 << 20})});
    writer.write("w", values.data(), values.size() * 4);
    writer.commit();
  });
  EXPECT_THAT(error, HasSubstr("No space left on device"));
  EXPECT_THAT(folder_.files(), IsEmpty());
}

TEST_F(Safetensors, WritingInAnotherOrderOrTooMuchOrTooLittleIsAMistake) {
  const std::vector<char> bytes(8);
  SafetensorsWriter writer(path_, {declare("a", "U8", {4}), declare("b", "U8", {4})});
  EXPECT_THROW(writer.write("b", bytes.data(), 4), std::logic_error);
  EXPECT_THROW(writer.write("a", bytes.data(), 5), std::logic_error);
  writer.write("a", bytes.data(), 4);
  EXPECT_THROW(writer.commit(), std::logic_error);
}

TEST_F(Safetensors, ViewsRefuseForeignTypesTooManyAxesAndOddAddresses) {
  write_file(path_, file_with(R"({"h":{"dtype":"I16","shape":[1],"data_offsets":[0,2]},)"
                              R"("x":{"dtype":"U8","shape":[1,1,1,1,1],"data_offsets":[2,3]},)"
                              R"("odd":{"dtype":"F32","shape":[1],"data_offsets":[3,7]},)"
                              R"("s":{"dtype":"U8","shape":[],"data_offsets":[7,8]}})",
                              std::string(8, '\0')));
  const SafetensorsFile file(path_);
  EXPECT_EQ(error_of<Error>([&] { view_of(*file.find("h")); }),
            "tensor h has the type I16, which this program does not work with; convert it to F32");
  EXPECT_EQ(error_of<Error>([&] { view_of(*file.find("x")); }),
            "tensor x has 5 axes (U8 [1, 1, 1, 1, 1]), more than the 4 that this program works with");
  const auto* odd = file.find("odd");
  if (reinterpret_cast<uintptr_t>(odd->data) % 4 != 0) {
    EXPECT_THAT(error_of<Error>([&] { view_of(*odd); }), HasSubstr("tensor odd begins at an address"));
  }
  EXPECT_EQ(view_of(*file.find("s")).rank(), 0);
}

TEST_F(Safetensors, ReadsAPublishedModel) {
  const fs::path model = fs::path(MOE_SHARED_DIR) / "data/weights/stories260K/model.safetensors";
  if (!fs::exists(model)) GTEST_SKIP() << model << " is not there";
  const SafetensorsFile file(model);
  EXPECT_EQ(file.find("model.embed_tokens.weight")->text(), "F32 [512, 64]");
  EXPECT_EQ(file.metadata().at("format"), "pt");
}

}  // namespace
}  // namespace moe
