#pragma once
/// Which of several lists a run's row comes from: a pure function of the row's number.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace moe {

/// Consecutive documents of a list, and how often their rows come beside those of other parts.
struct DataPart {
  int64_t documents;
  double weight;
};

/// Rows are dealt out evenly: of the first n rows, part p has within one of each split above it its share of n. No seed
/// decides it, and no state.
class Mixture {
 public:
  /// Positive weights, of any sum; at least one.
  explicit Mixture(const std::vector<double>& weights);

  struct Place {
    size_t part;
    int64_t row;  ///< counted within the part, over all epochs
  };
  Place place_of(int64_t row) const;

  /// How many of the first `rows` rows are of a part.
  int64_t rows_of(size_t part, int64_t rows) const;

 private:
  // Of `rows` rows that reach a part's split, those that it takes.
  int64_t taken(size_t part, int64_t rows) const;

  // By part, of what the parts before it leave, in units of 2^-32; the last one takes all.
  std::vector<uint64_t> shares_;
};

}  // namespace moe
