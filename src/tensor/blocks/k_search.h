#pragma once
/// Searches for the scales of blocks whose format leaves them open, so that the sum of squared differences is small.
///
/// `count`: of the numbers in a part of a block, a multiple of 4. Safe from any thread.

namespace moe::blocks {

/// Approximates x by step q - floor, with q in [0, most], step and floor 0 or more.
struct Line {
  float step = 0, floor = 0;
};
/// The best of several dozen lines for `count` numbers.
Line find_line(const float* x, int count, int most);
/// The sum of squared differences if each number gets its nearest code on the line. `codes`, if given, gets the codes.
float line_error(const float* x, int count, int most, Line line, unsigned char* codes = nullptr);

/// Approximates x by step q, with q in [-most - 1, most]; the step may have either sign.
float find_step(const float* x, int count, int most);
float step_error(const float* x, int count, int most, float step, signed char* codes = nullptr);

}  // namespace moe::blocks
