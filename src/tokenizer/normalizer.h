#pragma once
/// Changes of text before it is cut into words: Unicode's normal forms, SentencePiece's maps of characters,
/// replacements, and what vocabularies of characters need to see their blanks.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "formats/json.h"
#include "tokenizer/character_map.h"
#include "tokenizer/normal_form.h"
#include "tokenizer/pattern.h"

namespace moe {

/// The character that stands for a blank in such vocabularies (U+2581).
inline constexpr std::string_view kBlankMark = "\u2581";

/// How a SentencePiece model changes text.
struct SentencePieceText {
  std::shared_ptr<const CharacterMap> map = nullptr;
  bool prefix = true;         // a blank before the text
  bool single_blanks = true;  // none at the ends, and one between words
};

/// Steps in their order. Several threads may use one object.
class Normalizer {
 public:
  /// Without steps: text stays as it is.
  Normalizer() = default;
  /// From the member "normalizer" of a tokenizer.json. A step that is not supported is an error with its name.
  Normalizer(const Json& normalizer, const std::string& where);

  /// The part of the member "pre_tokenizer" that changes text before all cuts: Metaspace as the first step.
  static Normalizer of_metaspace(const Json& pre_tokenizer, const std::string& where);

  /// The changes of a SentencePiece model; marks stand for blanks at the end.
  static Normalizer of_sentencepiece(SentencePieceText text);

  bool empty() const { return steps_.empty(); }
  /// True if one of the steps is a normal form.
  bool has_normal_form() const;
  /// True if no step is anything else.
  bool has_normal_forms_only() const;
  /// True if a step looks characters up in a map, matches an expression or takes blanks away.
  bool has_map_or_expression() const;
  /// True if a step may take away the beginning of a text.
  bool cuts_beginnings() const;
  /// True if a mark comes before the beginning of a text alone.
  bool marks_beginnings() const;
  /// True if apply() surely gives `text` itself; much faster than apply().
  bool keeps(std::string_view text) const;

  /// `at_start`: nothing of the text precedes this part.
  std::string apply(std::string_view text, bool at_start) const;

 private:
  struct Replace {
    std::string from, to;
  };
  struct ReplaceMatches {
    std::shared_ptr<const Pattern> pattern;
    std::string to;
  };
  struct Prepend {
    enum class When { always, if_absent, if_absent_at_start };
    std::string text;
    When when = When::always;
  };
  struct Strip {
    bool left, right;
  };
  struct MapGraphemes {
    std::shared_ptr<const CharacterMap> map;
  };
  using Step = std::variant<NormalForm, Replace, ReplaceMatches, Prepend, Strip, MapGraphemes, SentencePieceText>;

  static void run(NormalForm form, bool at_start, std::string& text);
  static void run(const Replace& step, bool at_start, std::string& text);
  static void run(const ReplaceMatches& step, bool at_start, std::string& text);
  static void run(const Prepend& step, bool at_start, std::string& text);
  static void run(const Strip& step, bool at_start, std::string& text);
  static void run(const MapGraphemes& step, bool at_start, std::string& text);
  static void run(const SentencePieceText& step, bool at_start, std::string& text);

  void add(const Json& node, const std::string& where);
  void add_replace(const Json& node, const std::string& where);
  void add_map(const Json& node, const std::string& where);
  void add_metaspace(const Json& node, const std::string& where);

  std::vector<Step> steps_;
};

/// The mark before a text that Metaspace asks for: "always", "first" or "never". Refuses other marks than kBlankMark.
std::string metaspace_scheme(const Json& node, const std::string& where);

}  // namespace moe
