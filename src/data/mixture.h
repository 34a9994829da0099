#pragma once
/// Chooses the list that a row of the run comes from: a pure function of the row's number.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace moe {

/// Consecutive documents of a list, and the weight of their rows among those of other parts.
struct DataPart {
  int64_t documents;
  double weight;
};

/// Deals out rows evenly. Of the first n rows, part p has its share of n, with an error below one for each split above
/// the part. The result depends neither on a seed nor on state. Several threads may use one object.
class Mixture {
 public:
  /// Positive weights with any sum; at least one weight.
  explicit Mixture(const std::vector<double>& weights);

  struct Place {
    size_t part;
    int64_t row;  ///< counted within the part, over all epochs
  };
  Place place_of(int64_t row) const;

  /// The number of rows of a part among the first `rows` rows.
  int64_t rows_of(size_t part, int64_t rows) const;

 private:
  // Of `rows` rows that reach a part's split, the number that it takes.
  int64_t taken(size_t part, int64_t rows) const;

  // For each part: its share of what the parts before it leave, in units of 2^-32. The last one takes all.
  std::vector<uint64_t> shares_;
};

}  // namespace moe
