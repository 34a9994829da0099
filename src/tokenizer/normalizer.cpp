#include "tokenizer/normalizer.h"

#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"
#include "formats/base64.h"
#include "tokenizer/unicode_classes.h"

namespace moe {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::string out;
  size_t done = 0;
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, done)) {
    out.append(text, done, at - done).append(to);
    done = at + from.size();
  }
  if (done == 0) return;
  out.append(text, done);
  text = std::move(out);
}

/// The first step of a pre-tokenizer that is no sequence; null if there is none.
const Json* first_step(const Json& node, const std::string& where) {
  if (json_string(node, "type", where) != "Sequence") return &node;
  for (const Json& child : json_array(node, "pretokenizers", where)) {
    if (const Json* const step = first_step(child, where)) return step;
  }
  return nullptr;
}

}  // namespace

Normalizer::Normalizer(const Json& normalizer, const std::string& where) { add(normalizer, where); }

Normalizer Normalizer::of_metaspace(const Json& pre_tokenizer, const std::string& where) {
  Normalizer marks;
  const Json* const step = first_step(pre_tokenizer, where);
  if (step != nullptr && json_string(*step, "type", where) == "Metaspace") marks.add_metaspace(*step, where);
  return marks;
}

Normalizer Normalizer::of_sentencepiece(SentencePieceText text) {
  Normalizer normalizer;
  normalizer.steps_.push_back(std::move(text));
  return normalizer;
}

void Normalizer::add(const Json& node, const std::string& where) {
  const std::string type = json_string(node, "type", where);
  if (type == "Sequence") {
    for (const Json& child : json_array(node, "normalizers", where)) add(child, where);
  } else if (type == "Prepend") {
    const std::string text = json_string(node, "prepend", where);
    if (text.empty()) fail("{}: the normalizer Prepend has an empty text; leave the step out", where);
    steps_.push_back(Prepend{text});
  } else if (type == "Replace") {
    add_replace(node, where);
  } else if (type == "Strip") {
    steps_.push_back(Strip{json_bool(node, "strip_left", where, true), json_bool(node, "strip_right", where, true)});
  } else if (type == "Precompiled") {
    add_map(node, where);
  } else if (const auto form = normal_form_named(type)) {
    steps_.push_back(*form);
  } else {
    fail(
        "{}: the normalizer {} is not supported (supported: Sequence, Prepend, Replace, Strip, Precompiled, NFC, NFD, "
        "NFKC, NFKD)",
        where, type);
  }
}

void Normalizer::add_replace(const Json& node, const std::string& where) {
  const Json& pattern = json_member(node, "pattern", where);
  const std::string to = json_string(node, "content", where);
  if (json_find(pattern, "String", where) == nullptr) {
    const std::string expression = json_string(pattern, "Regex", where);
    try {
      auto searched = std::make_shared<const Pattern>(expression);
      RegexScratch scratch;
      searched->for_each("", scratch, [&](size_t, size_t, bool) {
        fail("the expression {:?} matches the empty text, on which the library fails", expression);
      });
      steps_.push_back(ReplaceMatches{std::move(searched), to});
    } catch (const Error& error) {
      fail("{}: Replace: {}", where, error.what());
    }
    return;
  }
  const std::string from = json_string(pattern, "String", where);
  if (from.empty()) fail("{}: the normalizer Replace has an empty pattern", where);
  steps_.push_back(Replace{from, to});
}

void Normalizer::add_map(const Json& node, const std::string& where) {
  const auto bytes = from_base64(json_string(node, "precompiled_charsmap", where));
  if (!bytes) fail("{}: the precompiled_charsmap of Precompiled is not base64", where);
  steps_.push_back(MapGraphemes{std::make_shared<const CharacterMap>(*bytes, where)});
}

std::string metaspace_scheme(const Json& node, const std::string& where) {
  if (json_string(node, "replacement", where, kBlankMark) != kBlankMark) {
    fail("{}: Metaspace replaces blanks by another character than \"{}\", which is not supported", where, kBlankMark);
  }
  // Old files have add_prefix_space instead of prepend_scheme.
  const bool add_prefix = json_bool(node, "add_prefix_space", where, true);
  const std::string scheme = json_string(node, "prepend_scheme", where, add_prefix ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    fail("{}: prepend_scheme is \"{}\", expected always, first or never", where, scheme);
  }
  return scheme;
}

void Normalizer::add_metaspace(const Json& node, const std::string& where) {
  const std::string scheme = metaspace_scheme(node, where);
  steps_.push_back(Replace{" ", std::string(kBlankMark)});
  if (scheme == "never") return;
  steps_.push_back(Prepend{std::string(kBlankMark),
                           scheme == "always" ? Prepend::When::if_absent : Prepend::When::if_absent_at_start});
}

bool Normalizer::has_normal_form() const {
  return std::any_of(steps_.begin(), steps_.end(),
                     [](const Step& step) { return std::holds_alternative<NormalForm>(step); });
}

bool Normalizer::has_normal_forms_only() const {
  return std::all_of(steps_.begin(), steps_.end(),
                     [](const Step& step) { return std::holds_alternative<NormalForm>(step); });
}

bool Normalizer::has_map_or_expression() const {
  return std::any_of(steps_.begin(), steps_.end(), [](const Step& step) {
    const auto* const piece = std::get_if<SentencePieceText>(&step);
    return piece != nullptr ? piece->map != nullptr || piece->single_blanks
                            : std::holds_alternative<ReplaceMatches>(step) || std::holds_alternative<Strip>(step) ||
                                  std::holds_alternative<MapGraphemes>(step);
  });
}

bool Normalizer::cuts_beginnings() const {
  return std::any_of(steps_.begin(), steps_.end(), [](const Step& step) {
    if (const auto* const strip = std::get_if<Strip>(&step)) return strip->left;
    if (const auto* const replace = std::get_if<Replace>(&step)) return replace->to.empty();
    const auto* const matches = std::get_if<ReplaceMatches>(&step);
    return matches != nullptr && matches->to.empty();
  });
}

bool Normalizer::marks_beginnings() const {
  return std::any_of(steps_.begin(), steps_.end(), [](const Step& step) {
    const auto* const prepend = std::get_if<Prepend>(&step);
    return prepend != nullptr && prepend->when == Prepend::When::if_absent_at_start;
  });
}

bool Normalizer::keeps(std::string_view text) const {
  return std::all_of(steps_.begin(), steps_.end(), [&](const Step& step) {
    const auto* const form = std::get_if<NormalForm>(&step);
    return form != nullptr && is_surely_normal(text, *form);
  });
}

std::string Normalizer::apply(std::string_view given, bool at_start) const {
  std::string text(given);
  for (const Step& step : steps_) std::visit([&](const auto& each) { run(each, at_start, text); }, step);
  return text;
}

void Normalizer::run(NormalForm form, bool, std::string& text) {
  if (!is_surely_normal(text, form)) text = normalized(text, form);
}

void Normalizer::run(const Replace& step, bool, std::string& text) { replace_all(text, step.from, step.to); }

void Normalizer::run(const ReplaceMatches& step, bool, std::string& text) {
  RegexScratch scratch;
  std::string out;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view valid = rest.substr(0, utf8_valid_prefix(rest));
    step.pattern->for_each(valid, scratch, [&](size_t begin, size_t end, bool is_match) {
      out += is_match ? std::string_view(step.to) : valid.substr(begin, end - begin);
    });
    rest.remove_prefix(valid.size());
    for (; !rest.empty() && utf8_length(rest) == 0; rest.remove_prefix(1)) out += rest.front();
  }
  text = std::move(out);
}

void Normalizer::run(const Prepend& step, bool at_start, std::string& text) {
  if (text.empty()) return;
  const bool present = step.when != Prepend::When::always && text.starts_with(step.text);
  const bool elsewhere = step.when == Prepend::When::if_absent_at_start && !at_start;
  if (!present && !elsewhere) text.insert(0, step.text);
}

void Normalizer::run(const Strip& step, bool, std::string& text) {
  static const CharacterSet kBlanks(unicode::ranges_of(unicode::kSpaces));
  std::string_view kept = text;
  while (step.left && utf8_length(kept) > 0) {
    std::string_view after = kept;
    if (!kBlanks.contains(utf8_take(after))) break;
    kept = after;
  }
  while (step.right && !kept.empty()) {
    size_t begin = kept.size() - 1;
    while (begin > 0 && (static_cast<uint8_t>(kept[begin]) & 0xC0) == 0x80) --begin;
    std::string_view last = kept.substr(begin);
    if (utf8_length(last) != last.size() || !kBlanks.contains(utf8_take(last))) break;
    kept = kept.substr(0, begin);
  }
  text = std::string(kept);
}

void Normalizer::run(const MapGraphemes& step, bool, std::string& text) { text = step.map->apply_to_graphemes(text); }

// As SentencePiece does it: what a character becomes is looked at for blanks, not the text itself.
void Normalizer::run(const SentencePieceText& step, bool, std::string& text) {
  const auto prefix = [&](std::string_view rest) -> CharacterMap::Match {
    const auto found = step.map ? step.map->longest(rest) : std::nullopt;
    if (found) return *found;
    const size_t length = std::max<size_t>(1, utf8_length(rest));
    return {length, rest.substr(0, length)};
  };
  std::string_view rest = text;
  while (step.single_blanks && !rest.empty()) {
    const auto [length, replacement] = prefix(rest);
    if (replacement != " ") break;
    rest.remove_prefix(length);
  }
  if (rest.empty()) return text.clear();
  std::string out = step.prefix ? std::string(kBlankMark) : "";
  bool after_blank = step.single_blanks;
  while (!rest.empty()) {
    auto [length, replacement] = prefix(rest);
    while (after_blank && replacement.starts_with(' ')) replacement.remove_prefix(1);
    for (const char c : replacement) c == ' ' ? out.append(kBlankMark) : out.append(1, c);
    if (!replacement.empty()) after_blank = replacement.ends_with(' ');
    if (!step.single_blanks) after_blank = false;
    rest.remove_prefix(length);
  }
  while (step.single_blanks && out.ends_with(kBlankMark)) out.resize(out.size() - kBlankMark.size());
  text = std::move(out);
}

}  // namespace moe
