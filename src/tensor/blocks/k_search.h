#pragma once
/// The search for scales of blocks whose layout leaves them open: the sum of squared differences becomes small.

namespace moe::blocks {

/// x about step q - floor, q in [0, most], step and floor 0 or more.
struct Line {
  float step = 0, floor = 0;
};
/// The best of some dozen lines for `count` numbers.
Line find_line(const float* x, int count, int most);
/// The sum of squared differences when each number takes its nearest code on the line; `codes` gets them if it is
/// there.
float line_error(const float* x, int count, int most, Line line, unsigned char* codes = nullptr);

/// x about step q, q in [-most - 1, most]; the step has either sign.
float find_step(const float* x, int count, int most);
float step_error(const float* x, int count, int most, float step, signed char* codes = nullptr);

}  // namespace moe::blocks
