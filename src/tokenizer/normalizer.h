#pragma once
/// Changes of text before it is cut into words: Unicode's normal forms, and what vocabularies of characters need to see
/// their blanks.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json.h"
#include "tokenizer/normal_form.h"

namespace moe {

/// The character that stands for a blank in such vocabularies (U+2581).
inline constexpr std::string_view kBlankMark = "\u2581";

/// Steps in their order. Several threads may use one object.
class Normalizer {
 public:
  /// Without steps: text stays as it is.
  Normalizer() = default;
  /// From the member "normalizer" of a tokenizer.json. A step that is not supported is an error with its name.
  Normalizer(const Json& normalizer, const std::string& where);

  /// The part of the member "pre_tokenizer" that changes text: Metaspace.
  static Normalizer of_metaspace(const Json& pre_tokenizer, const std::string& where);

  /// What SentencePiece does: a blank before the text if `prefix`, then a mark for every blank.
  static Normalizer of_sentencepiece(bool prefix);

  bool empty() const { return steps_.empty(); }
  /// True if one of the steps is a normal form.
  bool has_normal_form() const;
  /// True if no step is anything else.
  bool has_normal_forms_only() const;
  /// True if apply() surely gives `text` itself; much faster than apply().
  bool keeps(std::string_view text) const;

  /// `at_start`: nothing of the text precedes this part.
  std::string apply(std::string_view text, bool at_start) const;

 private:
  enum class Prefix { always, if_absent, if_absent_at_start };

  struct Step {
    std::string from = {}, to = {};  // if `from` is empty, `to` is put before the text
    Prefix prefix = Prefix::always;
    std::optional<NormalForm> form = std::nullopt;  // then this is all that the step does
  };

  void add(const Json& node, const std::string& where);
  void add_metaspace(const Json& node, const std::string& where);

  std::vector<Step> steps_;
};

}  // namespace moe
