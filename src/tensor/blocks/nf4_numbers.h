#pragma once
/// The 16 numbers that a code of nf4 stands for, in a form that programs for a GPU can copy.

namespace moe {

struct Nf4Numbers {
  float at[16];
};

/// Quantiles of the normal distribution, one of them 0 (Dettmers et al. 2023, appendix E).
inline constexpr Nf4Numbers kNf4Numbers{
    {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
     -0.18477343022823334f, -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f,
     0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f}};

}  // namespace moe
