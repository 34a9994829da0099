#pragma once
/// Storage types with elements in blocks that share scales, as in GGUF files; names, layouts and numbers are those of
/// ggml (but those of nf4). Converts whole blocks (tensor/dtype.h). The stored numbers must be finite.

#include <cstdint>

namespace moe {

// 32 elements and one scale d (f16). q8_0: x = d q, q in [-127, 127]. q4_0, q5_0: x = d (q - 8), d (q - 16). q4_1,
// q5_1: x = d q + m. The stored numbers have the same bits as those of ggml's own quantiser.
void q8_0_to_floats(const void* from, float* to, int64_t elements);
void floats_to_q8_0(const float* from, void* to, int64_t elements);
void q4_0_to_floats(const void* from, float* to, int64_t elements);
void floats_to_q4_0(const float* from, void* to, int64_t elements);
void q4_1_to_floats(const void* from, float* to, int64_t elements);
void floats_to_q4_1(const float* from, void* to, int64_t elements);
void q5_0_to_floats(const void* from, float* to, int64_t elements);
void floats_to_q5_0(const float* from, void* to, int64_t elements);
void q5_1_to_floats(const void* from, float* to, int64_t elements);
void floats_to_q5_1(const float* from, void* to, int64_t elements);

// Four blocks of q8_0 or q4_0 with their scales in front, in the order that a GPU reads them in: the same numbers.
void q8_0_to_q8_0x4(const void* from, void* to, int64_t elements);
void q8_0x4_to_floats(const void* from, float* to, int64_t elements);
void floats_to_q8_0x4(const float* from, void* to, int64_t elements);
void q4_0_to_q4_0x4(const void* from, void* to, int64_t elements);
void q4_0x4_to_floats(const void* from, float* to, int64_t elements);
void floats_to_q4_0x4(const float* from, void* to, int64_t elements);

// 256 elements. q4_k, q5_k: 8 parts of 32, x = (d s) q - (dmin m), with s and m of 6 bits, d and dmin f16. q6_k: 16
// parts of 16, x = (d s) (q - 32), s of 8 bits. The format does not say how to choose the scales; here a search finds
// them (k_search.h).
void q4_k_to_floats(const void* from, float* to, int64_t elements);
void floats_to_q4_k(const float* from, void* to, int64_t elements);
void q5_k_to_floats(const void* from, float* to, int64_t elements);
void floats_to_q5_k(const float* from, void* to, int64_t elements);
void q6_k_to_floats(const void* from, float* to, int64_t elements);
void floats_to_q6_k(const float* from, void* to, int64_t elements);

// 64 elements and one scale (f32), x = scale * nf4_numbers()[q]: 4-bit NormalFloat with the numbers of bitsandbytes.
// floats_to_nf4 takes a whole matrix, because the scales are quantised, too: the mean of all of them is subtracted, and
// groups of 256 are rounded to 8 bits. A block keeps the scale that follows, so that it can be read alone.
void nf4_to_floats(const void* from, float* to, int64_t elements);
void floats_to_nf4(const float* from, void* to, int64_t elements);
/// The 16 numbers that a code of nf4 stands for, ascending from -1 to 1.
const float* nf4_numbers();

}  // namespace moe
