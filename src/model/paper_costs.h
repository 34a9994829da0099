#pragma once
/// The cost table of the DeepSeekMoE paper (docs/paper.md section 3), computed again from the relative sizes it gives:
/// an expert's width is an exact fraction of 8/3 d, which no real model can have.

#include <string>
#include <vector>

namespace moe {

/// One figure of the paper and ours.
struct PaperFigure {
  std::string model;
  std::string quantity;  ///< "total", "activated", "expert", "activated expert" parameters (1e9) or "FLOPs" (1e12)
  double paper;
  int decimals;  ///< that the paper prints
  double ours;
  std::string note;  ///< why they differ, or how ours was counted; "": nothing to say

  /// Within 1%, or the same when rounded as the paper rounds.
  bool agrees() const;
};

std::vector<PaperFigure> paper_figures();

}  // namespace moe
