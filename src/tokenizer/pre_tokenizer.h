#pragma once
/// Cuts text into the words within which BPE merges. A pre-tokenizer is a sequence of splits. Each split treats every
/// piece of the previous one as a separate text, so the words of a piece depend only on its bytes. Several threads may
/// use one object.

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/utf8.h"
#include "formats/json.h"
#include "tokenizer/bpe.h"
#include "tokenizer/pattern.h"

namespace moe {

/// What happens to a pattern's matches and to the text between them (names as in tokenizer.json).
enum class SplitBehavior { isolated, removed, contiguous, merged_with_previous, merged_with_next };

struct Split {
  std::optional<Pattern> pattern = std::nullopt;  // none: the piece is not cut
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;        // matches and the text between them exchange their roles
  bool add_blank = false;     // a piece that does not begin with a blank gets one before it is cut
  bool marks_blanks = false;  // blanks become marks before it is cut
  bool add_mark = false;      // then a piece that does not begin with a mark gets one
};

class PreTokenizer {
 public:
  /// Without cuts: the text is one word.
  PreTokenizer() = default;
  /// From the member "pre_tokenizer" of a tokenizer.json. For a vocabulary of bytes it must end with ByteLevel; for one
  /// of characters it has no such step. If the first step is Metaspace, a Normalizer has written its marks
  /// (Normalizer::of_metaspace). A component that is not supported is an error with its name.
  PreTokenizer(const Json& pre_tokenizer, std::string_view where, Alphabet alphabet = Alphabet::bytes);

  /// The number of splits.
  size_t size() const { return splits_.size(); }

  /// What split `index` cuts instead of `piece`: the piece itself, or the piece with a blank before it or with marks,
  /// in `buffer`.
  std::string_view prepare(size_t index, std::string_view piece, std::string& buffer) const;

  /// Cuts `piece` (valid UTF-8, not empty, prepared) with split `index`, and calls sink(std::string_view) for each
  /// part, in order. Each is a non-empty part of `piece`.
  template <class Sink>
  void cut(size_t index, std::string_view piece, RegexScratch& scratch, Sink&& sink) const;

  /// Applies all splits to the valid UTF-8 in `text` and calls sink(std::string_view) for each word, in order.
  template <class Sink>
  void for_each_word(std::string_view text, RegexScratch& scratch, Sink&& sink) const {
    while (!text.empty()) {
      const size_t valid = utf8_valid_prefix(text);
      if (valid > 0) cut_from(0, text.substr(0, valid), scratch, sink);
      text.remove_prefix(std::min(text.size(), valid + 1));
    }
  }

 private:
  template <class Sink>
  void cut_from(size_t index, std::string_view piece, RegexScratch& scratch, Sink& sink) const {
    if (index == size()) return sink(piece);
    std::string buffer;
    cut(index, prepare(index, piece, buffer), scratch,
        [&](std::string_view part) { cut_from(index + 1, part, scratch, sink); });
  }

  void add(const Json& node, const std::string& where);
  void add_byte_level(const Json& node, const std::string& where);
  void add_metaspace(const Json& node, const std::string& where);
  void add_split(const Json& node, const std::string& where);

  std::vector<Split> splits_;
  bool byte_level_ = false;
  bool first_ = true;  // no step has been added yet
};

namespace detail {

/// Applies a behaviour to the alternating matches and gaps of one piece.
template <class Sink>
class Joiner {
 public:
  Joiner(SplitBehavior behavior, std::string_view piece, Sink& sink)
      : behavior_(behavior), piece_(piece), sink_(sink) {}

  void add(size_t begin, size_t end, bool is_match) {
    switch (behavior_) {
      case SplitBehavior::isolated:
        return emit(begin, end);
      case SplitBehavior::removed:
        return is_match ? void() : emit(begin, end);
      case SplitBehavior::contiguous:
        return join(begin, end, is_match, pending_match_ == is_match);
      case SplitBehavior::merged_with_previous:
        return join(begin, end, is_match, is_match && !pending_match_);
      case SplitBehavior::merged_with_next:
        return join(begin, end, is_match, !is_match && pending_match_);
    }
  }

  void finish() {
    if (has_pending_) emit(begin_, end_);
  }

 private:
  void emit(size_t begin, size_t end) {
    if (begin < end) sink_(piece_.substr(begin, end - begin));
  }

  void join(size_t begin, size_t end, bool is_match, bool with_pending) {
    if (has_pending_ && with_pending) {
      end_ = end;
    } else {
      finish();
      begin_ = begin;
      end_ = end;
    }
    has_pending_ = true;
    pending_match_ = is_match;
  }

  SplitBehavior behavior_;
  std::string_view piece_;
  Sink& sink_;
  bool has_pending_ = false;
  bool pending_match_ = false;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace detail

template <class Sink>
void PreTokenizer::cut(size_t index, std::string_view piece, RegexScratch& scratch, Sink&& sink) const {
  const Split& split = splits_[index];
  if (!split.pattern) return sink(piece);
  if (split.behavior == SplitBehavior::isolated) {
    split.pattern->for_each(piece, scratch, [&](size_t begin, size_t end, bool) {
      if (begin < end) sink(piece.substr(begin, end - begin));
    });
    return;
  }
  detail::Joiner<std::remove_reference_t<Sink>> joiner(split.behavior, piece, sink);
  split.pattern->for_each(piece, scratch, [&](size_t begin, size_t end, bool is_match) {
    joiner.add(begin, end, is_match != split.invert);
  });
  joiner.finish();
}

}  // namespace moe
