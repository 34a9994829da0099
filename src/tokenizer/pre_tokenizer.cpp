#include "tokenizer/pre_tokenizer.h"

#include <array>
#include <utility>

#include "base/error.h"
#include "tokenizer/expression_texts.h"
#include "tokenizer/normalizer.h"

namespace moe {
namespace {

/// One character of `members`, or a run of them.
Pattern class_pattern(const unicode::Ranges& members, uint32_t most) {
  return Pattern(ClassRun{.members = CharacterSet(members), .most = most});
}

/// \w+|[^\w\s]+ with the classes of Rust's regular expressions.
Pattern words_and_others() {
  const unicode::Ranges words = unicode::rust_word();
  const unicode::Ranges spaces = unicode::ranges_of(unicode::kSpaces);
  return Pattern(
      WordsAndOthers{CharacterSet(words), CharacterSet(unicode::complement(unicode::united(words, spaces)))});
}

SplitBehavior behavior_named(const std::string& name, const std::string& where) {
  static constexpr std::array<std::pair<std::string_view, SplitBehavior>, 5> kNames = {
      {{"Isolated", SplitBehavior::isolated},
       {"Removed", SplitBehavior::removed},
       {"Contiguous", SplitBehavior::contiguous},
       {"MergedWithPrevious", SplitBehavior::merged_with_previous},
       {"MergedWithNext", SplitBehavior::merged_with_next}}};
  for (const auto& [known, behavior] : kNames) {
    if (name == known) return behavior;
  }
  fail(
      "{}: the split behavior \"{}\" is unknown, expected Isolated, Removed, Contiguous, MergedWithPrevious or "
      "MergedWithNext",
      where, name);
}

}  // namespace

std::string_view PreTokenizer::prepare(size_t index, std::string_view piece, std::string& buffer) const {
  const Split& split = splits_[index];
  if (split.marks_blanks) {
    buffer.clear();
    for (const char c : piece) c == ' ' ? buffer.append(kBlankMark) : buffer.append(1, c);
    if (split.add_mark && !buffer.starts_with(kBlankMark)) buffer.insert(0, kBlankMark);
    return buffer;
  }
  if (!split.add_blank || piece.starts_with(' ')) return piece;
  buffer.reserve(piece.size() + 1);
  buffer = ' ';
  buffer += piece;
  return buffer;
}

PreTokenizer::PreTokenizer(const Json& pre_tokenizer, std::string_view where, Alphabet alphabet) {
  const std::string name = fmt::format("{}: pre_tokenizer", where);
  add(pre_tokenizer, name);
  if (byte_level_ == (alphabet == Alphabet::bytes)) return;
  if (byte_level_) fail("{} has a ByteLevel step, which is not supported for a model of characters", name);
  fail(
      "{} has no ByteLevel step, which is only supported for a model of characters (Unigram, or BPE with "
      "byte_fallback)",
      name);
}

void PreTokenizer::add(const Json& node, const std::string& where) {
  const std::string type = json_string(node, "type", where);
  if (byte_level_) fail("{}: {} follows ByteLevel, which must be the last step", where, type);
  if (type == "Sequence") {
    for (const Json& child : json_array(node, "pretokenizers", where)) add(child, where);
    return;
  }
  if (type == "ByteLevel") {
    add_byte_level(node, where);
  } else if (type == "Metaspace") {
    add_metaspace(node, where);
  } else if (type == "Split") {
    add_split(node, where);
  } else if (type == "Digits") {
    const bool single = json_bool(node, "individual_digits", where, false);
    splits_.push_back({.pattern = class_pattern(unicode::digits_step(), 1),
                       .behavior = single ? SplitBehavior::isolated : SplitBehavior::contiguous});
  } else if (type == "Punctuation") {
    splits_.push_back({.pattern = class_pattern(unicode::punctuation_step(), 1),
                       .behavior = behavior_named(json_string(node, "behavior", where, "Isolated"), where)});
  } else if (type == "Whitespace") {
    splits_.push_back({.pattern = words_and_others(), .behavior = SplitBehavior::removed, .invert = true});
  } else if (type == "WhitespaceSplit") {
    splits_.push_back(
        {.pattern = class_pattern(unicode::ranges_of(unicode::kSpaces), 1), .behavior = SplitBehavior::removed});
  } else {
    fail(
        "{}: the step {} is not supported (supported: Sequence, Split, ByteLevel, Metaspace, Digits, Punctuation, "
        "Whitespace, WhitespaceSplit)",
        where, type);
  }
  first_ = false;
}

// As the first step, its blanks have become marks already (Normalizer); what is left is to cut before each mark.
void PreTokenizer::add_metaspace(const Json& node, const std::string& where) {
  Split split{.behavior = SplitBehavior::merged_with_next};
  if (json_bool(node, "split", where, true)) split.pattern = Pattern(regex_escape(kBlankMark));
  if (!first_) {
    const std::string scheme = metaspace_scheme(node, where);
    if (scheme == "first") fail("{}: Metaspace with prepend_scheme first is only supported as the first step", where);
    split.marks_blanks = true;
    split.add_mark = scheme == "always";
  }
  if (split.pattern || split.marks_blanks) splits_.push_back(std::move(split));
}

void PreTokenizer::add_byte_level(const Json& node, const std::string& where) {
  const bool add_blank = json_bool(node, "add_prefix_space", where, true);
  const bool use_regex = json_bool(node, "use_regex", where, true);
  byte_level_ = true;
  if (!add_blank && !use_regex) return;
  splits_.push_back(
      {.pattern = use_regex ? std::optional<Pattern>(Pattern(kGpt2)) : std::nullopt, .add_blank = add_blank});
}

void PreTokenizer::add_split(const Json& node, const std::string& where) {
  const Json& pattern = json_member(node, "pattern", where);
  const Json* literal = json_find(pattern, "String", where + ": Split: pattern");
  Split split{.behavior = behavior_named(json_string(node, "behavior", where), where),
              .invert = json_bool(node, "invert", where, false)};
  try {
    split.pattern = literal != nullptr ? Pattern(regex_escape(json_string(pattern, "String", where)))
                                       : Pattern(json_string(pattern, "Regex", where));
  } catch (const Error& error) {
    fail("{}: {}", where, error.what());
  }
  splits_.push_back(std::move(split));
}

}  // namespace moe
