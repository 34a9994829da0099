#include "tokenizer/sentencepiece.h"

#include <cstring>

#include "base/error.h"

namespace moe {
namespace {

/// Reads the fields of one message in their order.
class Message {
 public:
  Message(std::string_view bytes, const std::string& name) : rest_(bytes), name_(name) {}

  /// Moves to the next field; false at the end.
  bool next() {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    field_ = tag >> 3;
    switch (tag & 7) {
      case 0:
        number_ = varint();
        break;
      case 1:
        bytes_ = take(8);
        break;
      case 2:
        bytes_ = take(varint());
        break;
      case 5:
        bytes_ = take(4);
        break;
      default:
        damaged();
    }
    wire_ = tag & 7;
    return true;
  }

  uint64_t field() const { return field_; }
  int64_t number() const { return wire_ == 0 ? static_cast<int64_t>(number_) : damaged(); }
  std::string_view bytes() const { return wire_ == 2 ? bytes_ : (damaged(), bytes_); }
  float real() const {
    if (wire_ != 5) damaged();
    float value = 0;
    std::memcpy(&value, bytes_.data(), sizeof value);
    return value;
  }

 private:
  [[noreturn]] int64_t damaged() const {
    fail("{}: not a SentencePiece model, or a damaged one (protocol buffers, field {})", name_, field_);
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    damaged();
  }

  std::string_view take(uint64_t size) {
    if (size > rest_.size()) damaged();
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  std::string_view rest_;
  const std::string& name_;
  uint64_t field_ = 0, number_ = 0, wire_ = 0;
  std::string_view bytes_;
};

SentencePieceModel::Piece parse_piece(std::string_view bytes, const std::string& name) {
  SentencePieceModel::Piece piece;
  for (Message message(bytes, name); message.next();) {
    if (message.field() == 1) piece.text = message.bytes();
    if (message.field() == 2) piece.score = message.real();
    if (message.field() != 3) continue;
    if (message.number() < 1 || message.number() > 6)
      fail("{}: the piece \"{}\" has an unknown type", name, piece.text);
    piece.kind = static_cast<SentencePieceModel::Kind>(message.number());
  }
  if (piece.text.size() > kLongestTokenToCut) {
    fail("{}: a piece has {} bytes, expected at most {}", name, piece.text.size(), kLongestTokenToCut);
  }
  return piece;
}

void parse_trainer(std::string_view bytes, const std::string& name, SentencePieceModel& model) {
  for (Message message(bytes, name); message.next();) {
    switch (message.field()) {
      case 3:
        model.model_type = message.number();
        break;
      case 24:
        model.blank_at_end = message.number() != 0;
        break;
      case 35:
        model.byte_fallback = message.number() != 0;
        break;
      case 40:
        model.unknown = static_cast<int32_t>(message.number());
        break;
      case 41:
        model.bos = static_cast<int32_t>(message.number());
        break;
      case 42:
        model.eos = static_cast<int32_t>(message.number());
        break;
      case 43:
        model.pad = static_cast<int32_t>(message.number());
        break;
      default:
        break;
    }
  }
}

void parse_normalizer(std::string_view bytes, const std::string& name, SentencePieceModel& model) {
  for (Message message(bytes, name); message.next();) {
    if (message.field() == 1) model.normalization = message.bytes();
    if (message.field() == 2) model.character_map = message.bytes();
    if (message.field() == 3) model.add_dummy_prefix = message.number() != 0;
    if (message.field() == 4) model.remove_extra_whitespaces = message.number() != 0;
    if (message.field() == 5) model.escape_whitespaces = message.number() != 0;
  }
}

}  // namespace

SentencePieceModel parse_sentencepiece(std::string_view bytes, const std::string& name) {
  SentencePieceModel model;
  bool trained = false, normalized = false;
  for (Message message(bytes, name); message.next();) {
    if (message.field() == 1) model.pieces.push_back(parse_piece(message.bytes(), name));
    if (message.field() == 2) parse_trainer(message.bytes(), name, model);
    if (message.field() == 3) parse_normalizer(message.bytes(), name, model);
    trained = trained || message.field() == 2;
    normalized = normalized || message.field() == 3;
  }
  if (model.pieces.empty()) fail("{}: not a SentencePiece model: it has no pieces", name);
  // They follow the pieces. Without them the defaults would hold, which are another model's.
  if (!trained || !normalized) {
    fail("{}: it has no {}, which every SentencePiece model has; the file may be cut short", name,
         trained ? "normalizer settings" : "trainer settings");
  }
  return model;
}

}  // namespace moe
