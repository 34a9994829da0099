#include "tokenizer/normalizer.h"

#include <algorithm>

#include "base/error.h"

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

}  // namespace

Normalizer::Normalizer(const Json& normalizer, const std::string& where) { add(normalizer, where); }

Normalizer Normalizer::of_metaspace(const Json& pre_tokenizer, const std::string& where) {
  Normalizer marks;
  marks.add_metaspace(pre_tokenizer, where);
  return marks;
}

Normalizer Normalizer::of_sentencepiece(bool prefix) {
  Normalizer normalizer;
  if (prefix) normalizer.steps_.push_back({.from = "", .to = " "});
  normalizer.steps_.push_back({.from = " ", .to = std::string(kBlankMark)});
  return normalizer;
}

void Normalizer::add(const Json& node, const std::string& where) {
  const std::string type = json_string(node, "type", where);
  if (type == "Sequence") {
    for (const Json& child : json_array(node, "normalizers", where)) add(child, where);
  } else if (type == "Prepend") {
    steps_.push_back({.from = "", .to = json_string(node, "prepend", where)});
  } else if (type == "Replace") {
    const Json& pattern = json_member(node, "pattern", where);
    if (json_find(pattern, "String", where) == nullptr) {
      fail("{}: the normalizer Replace with an expression is not supported, expected a string", where);
    }
    const std::string from = json_string(pattern, "String", where);
    if (from.empty()) fail("{}: the normalizer Replace has an empty pattern", where);
    steps_.push_back({.from = from, .to = json_string(node, "content", where)});
  } else if (const auto form = normal_form_named(type)) {
    steps_.push_back({.form = form});
  } else {
    fail("{}: the normalizer {} is not supported (supported: Sequence, Prepend, Replace, NFC, NFD, NFKC, NFKD)", where,
         type);
  }
}

void Normalizer::add_metaspace(const Json& node, const std::string& where) {
  const std::string type = json_string(node, "type", where);
  if (type == "Sequence") {
    for (const Json& child : json_array(node, "pretokenizers", where)) add_metaspace(child, where);
  }
  if (type != "Metaspace") return;
  if (json_string(node, "replacement", where, kBlankMark) != kBlankMark) {
    fail("{}: Metaspace replaces blanks by another character than \"{}\", which is not supported", where, kBlankMark);
  }
  // Old files have add_prefix_space instead of prepend_scheme.
  const bool add_prefix = json_bool(node, "add_prefix_space", where, true);
  const std::string scheme = json_string(node, "prepend_scheme", where, add_prefix ? "always" : "never");
  steps_.push_back({.from = " ", .to = std::string(kBlankMark)});
  if (scheme == "never") return;
  if (scheme != "always" && scheme != "first") {
    fail("{}: prepend_scheme is \"{}\", expected always, first or never", where, scheme);
  }
  steps_.push_back({.from = "",
                    .to = std::string(kBlankMark),
                    .prefix = scheme == "always" ? Prefix::if_absent : Prefix::if_absent_at_start});
}

bool Normalizer::has_normal_form() const {
  return std::any_of(steps_.begin(), steps_.end(), [](const Step& step) { return step.form.has_value(); });
}

bool Normalizer::has_normal_forms_only() const {
  return std::all_of(steps_.begin(), steps_.end(), [](const Step& step) { return step.form.has_value(); });
}

bool Normalizer::keeps(std::string_view text) const {
  return std::all_of(steps_.begin(), steps_.end(),
                     [&](const Step& step) { return step.form && is_surely_normal(text, *step.form); });
}

std::string Normalizer::apply(std::string_view given, bool at_start) const {
  std::string text(given);
  for (const Step& step : steps_) {
    if (step.form) {
      if (!is_surely_normal(text, *step.form)) text = normalized(text, *step.form);
    } else if (!step.from.empty()) {
      replace_all(text, step.from, step.to);
    } else if (!text.empty()) {
      const bool present = step.prefix != Prefix::always && text.starts_with(step.to);
      const bool elsewhere = step.prefix == Prefix::if_absent_at_start && !at_start;
      if (!present && !elsewhere) text.insert(0, step.to);
    }
  }
  return text;
}

}  // namespace moe
