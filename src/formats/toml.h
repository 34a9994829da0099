#pragma once
/// Settings from a TOML run file and from `--set key=value` overrides. They are typed, and every error names file and
/// line.
///
/// A key is its dotted path, "train.steps". Values are integers, numbers, booleans, strings and lists of these. Reading
/// a key makes it known. finish() refuses all keys that were not read; so a program first reads every key that it
/// knows, and then calls finish().

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

/// For one thread at a time.
class Settings {
 public:
  /// No settings: every key has its default.
  Settings() = default;
  /// Reads a run file.
  static Settings load(const fs::path& path);
  /// Reads `text`; errors name it `source`.
  static Settings parse(std::string_view text, const std::string& source);

  /// Overrides one key: "train.steps=100", 'run.dir=runs/x', 'data.names=["a", "b"]'. Text that is not a TOML value is
  /// a string.
  void set(std::string_view assignment);

  /// Gives one key the value, as TOML, that it has in the file `from`, which a resumed run continues from. It overrides
  /// the run file as set() does. But if other settings leave it without effect, it is forgotten and not refused.
  void keep(std::string_view key, std::string_view value, const std::string& from);
  bool kept(std::string_view key) const;

  /// Forgets a section, as if its keys were not in the file.
  void drop_section(std::string_view section);
  /// Forgets a key whose value other keys have taken up: it is not in effect (to_toml()).
  void drop(std::string_view key);

  /// The value of `key`, or the default if it is not given. T: int64_t, double (accepts integers), bool, std::string,
  /// or a std::vector of one of these.
  template <class T>
  T get(std::string_view key, T default_value);
  /// A required key.
  template <class T>
  T require(std::string_view key);
  /// Nothing if the key is not given.
  template <class T>
  std::optional<T> find(std::string_view key);

  /// Makes a key known without reading it. `also` has other words for it, separated by blanks.
  void know(std::string_view key, std::string_view also = "");
  /// Keeps a mistake. finish() reports it together with the others, in the order of their lines.
  void keep_mistake(std::string_view key, const UsageError& error);
  bool has_mistakes() const { return !mistakes_.empty(); }
  /// The value in effect of a key, for to_toml().
  void resolve(std::string_view key, SettingValue value) { resolved_[std::string(key)] = std::move(value); }
  /// If `key` is given as a list of strings, its value becomes the text of formats/weighted_paths.h.
  void take_as_paths(std::string_view key);
  /// True if `key` is given with this text.
  bool gives_text(std::string_view key, std::string_view text);
  /// Refuses settings without `key`.
  [[noreturn]] void fail_missing(std::string_view key, std::string_view expected) const;

  /// True if the file or an override gives `key`, read or not.
  bool given(std::string_view key) const { return entries_.count(std::string(key)) != 0; }
  /// True if set() or keep() gives it.
  bool overridden(std::string_view key) const;
  /// The place where `key` is given: "configs/demo.toml:12", "--set train.steps=100", or "default".
  std::string where(std::string_view key) const;
  /// Refuses the value of `key`: "configs/demo.toml:12: train.steps is 0, expected at least 1".
  [[noreturn]] void refuse(std::string_view key, std::string_view expected) const;

  /// Refuses the keys that were not read, each with the known key that was probably meant. Reports them together with
  /// the kept mistakes, in one error.
  void finish() const { finish(""); }
  /// The same for the keys of one section; "" is every key.
  void finish(std::string_view section) const;

  /// The values in effect (with defaults) of every key read so far, as a TOML file, by section and key. Reading the
  /// file back gives the same values.
  std::string to_toml() const;

 private:
  struct Entry {
    SettingValue value;
    /// The text after "=" of an override. A string key takes it unchanged.
    std::optional<std::string> raw;
    /// "FILE:LINE", "--set ASSIGNMENT" or the file of a kept value.
    std::string where;
    /// Order of lines, then of overrides, so that the first mistake is reported.
    int order = 0;
    bool kept = false;
  };

  const Entry* find_entry(std::string_view key);
  std::string meant_key(const std::string& key) const;
  std::string unknown_key_text(const std::string& key, const Entry& entry, const std::string& meant) const;

  std::string source_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, SettingValue> resolved_;
  std::set<std::string> known_;
  std::map<std::string, std::string> also_;  // other words for known keys
  struct Mistake {
    int order;  // Entry::order; 0: the key is not given
    std::string key, text;
  };
  std::vector<Mistake> mistakes_;
  static constexpr int kFirstOverride = 1 << 30;
  int next_order_ = kFirstOverride;
};

/// The number of letters to insert, delete, replace or swap with a neighbour to turn `a` into `b`.
int edit_distance(std::string_view a, std::string_view b);

}  // namespace moe
