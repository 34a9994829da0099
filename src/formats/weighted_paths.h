#pragma once
/// Several paths, with or without weights, for data.train of a run file. The form is one line of text, which is also
/// TOML.

#include <string>
#include <string_view>
#include <vector>

namespace moe {

struct WeightedPath {
  std::string path;
  double weight = 1;  ///< 0: in proportion to the size of what the path holds
  bool operator==(const WeightedPath&) const = default;
};

/// `[{path = "A", weight = 0.7}, {path = "B", weight = 0.3}]`, or `["A", "B"]` if all weights are 0.
std::string weighted_paths_text(const std::vector<WeightedPath>& paths);

/// True if `text` has that form, and is not a path.
bool is_weighted_paths(std::string_view text);

/// The paths of such a text, or `text` itself as the only path. A table without a weight has the weight 1. Refuses an
/// empty list, entries of another form, and given weights that are not above 0 and finite. Errors begin with `where`.
std::vector<WeightedPath> parse_weighted_paths(std::string_view text, const std::string& where);

}  // namespace moe
