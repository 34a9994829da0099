#pragma once
/// The cost table of the DeepSeekMoE paper (docs/paper.md section 3), computed again from the paper's relative sizes.
/// There an expert's width is an exact fraction of 8/3 d, which no real model can have.

#include <string>
#include <vector>

namespace moe {

/// One number of the paper and our value.
struct PaperFigure {
  std::string model;
  std::string quantity;  ///< "total", "activated", "expert", "activated expert" parameters (1e9) or "FLOPs" (1e12)
  double paper;
  int decimals;  ///< decimals that the paper prints
  double ours;
  std::string note;  ///< the reason for a difference, or how our value was counted; "": none

  /// True if both are within 1%, or equal after the paper's rounding.
  bool agrees() const;
};

std::vector<PaperFigure> paper_figures();

}  // namespace moe
