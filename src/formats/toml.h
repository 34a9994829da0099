#pragma once
/// Settings out of a TOML run file and `--set key=value` overrides: typed, with file and line in every error.
///
/// A key is its dotted path, "train.steps". Values are integers, numbers, booleans, strings and lists of these. Reading
/// a key makes it known; finish() refuses keys that nobody read, so a program reads all it knows and then calls
/// finish().

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "formats/toml_value.h"

namespace moe {

class Settings {
 public:
  /// No settings: every key has its default.
  Settings() = default;
  /// Reads a run file.
  static Settings load(const fs::path& path);
  /// Reads `text`; errors name it `source`.
  static Settings parse(std::string_view text, const std::string& source);

  /// Overrides one key: "train.steps=100", 'run.dir=runs/x', 'data.names=["a", "b"]'. What is no TOML value is a
  /// string.
  void set(std::string_view assignment);

  /// Forgets a section: its keys are as if they had never been written.
  void drop_section(std::string_view section);

  /// The value of `key`, or the default where none is given. T: int64_t, double (integers are accepted), bool,
  /// std::string, or a std::vector of one of these.
  template <class T>
  T get(std::string_view key, T default_value);
  /// A key that must be given.
  template <class T>
  T require(std::string_view key);
  /// Nothing where the key is not given.
  template <class T>
  std::optional<T> find(std::string_view key);

  /// Makes a key known without reading it. `also` are words, with blanks between, that people write for it.
  void know(std::string_view key, std::string_view also = "");
  /// Keeps a mistake for finish() to tell with the others, in the order of their keys' lines.
  void keep_mistake(std::string_view key, const UsageError& error);
  bool has_mistakes() const { return !mistakes_.empty(); }
  /// The value in effect of a key, for to_toml().
  void resolve(std::string_view key, SettingValue value) { resolved_[std::string(key)] = std::move(value); }
  /// True when `key` is given as this text.
  bool gives_text(std::string_view key, std::string_view text);
  /// Refuses settings without `key`.
  [[noreturn]] void fail_missing(std::string_view key, std::string_view expected) const;

  /// True when the file or an override gives `key`, read or not.
  bool given(std::string_view key) const { return entries_.count(std::string(key)) != 0; }
  /// Where `key` comes from: "configs/demo.toml:12", "--set train.steps=100", or "default".
  std::string where(std::string_view key) const;
  /// Refuses the value of `key`: "configs/demo.toml:12: train.steps is 0, expected at least 1".
  [[noreturn]] void refuse(std::string_view key, std::string_view expected) const;

  /// Refuses the keys that nobody read, each with the known key that it may mean, and with them the mistakes that were
  /// kept: all in one error.
  void finish() const { finish(""); }
  /// The same of one section's keys alone; "" is every key.
  void finish(std::string_view section) const;

  /// The value in effect (default included) of every key read so far, as a TOML file, by section and key; reading it
  /// back gives the same values.
  std::string to_toml() const;

 private:
  struct Entry {
    SettingValue value;
    /// The text behind "=" of an override; a string key takes it as it stands.
    std::optional<std::string> raw;
    /// "FILE:LINE" or "--set ASSIGNMENT".
    std::string where;
    /// Lines first, then overrides, so that the first mistake is the one reported.
    int order = 0;
  };

  const Entry* find_entry(std::string_view key);
  std::string meant_key(const std::string& key) const;
  std::string unknown_key_text(const std::string& key, const Entry& entry) const;

  std::string source_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, SettingValue> resolved_;
  std::set<std::string> known_;
  std::map<std::string, std::string> also_;  // other words for known keys
  struct Mistake {
    int order;  // Entry::order; 0: the key is given nowhere
    std::string key, text;
  };
  std::vector<Mistake> mistakes_;
  int next_order_ = 1 << 30;
};

/// The number of letters to insert, delete, replace or swap with a neighbour to make `b` of `a`.
int edit_distance(std::string_view a, std::string_view b);

}  // namespace moe
