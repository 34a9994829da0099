#pragma once
/// Storage types of elements in blocks that share scales, as GGUF files have them: names, layouts and numbers are
/// ggml's. Conversions of whole blocks (tensor/dtype.h); the numbers that are stored must be finite.

#include <cstdint>

namespace moe {

// 32 elements, one scale d (f16). q8_0: x = d q, q in [-127, 127]. q4_0, q5_0: x = d (q - 8), d (q - 16).
// q4_1, q5_1: x = d q + m. Stored numbers are those of ggml's own quantiser, bit for bit.
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

// 256 elements. q4_k, q5_k: 8 parts of 32, x = (d s) q - (dmin m), s and m of 6 bits, d and dmin f16. q6_k: 16 parts
// of 16, x = (d s) (q - 32), s of 8 bits. The layout leaves the choice of scales open: here they are searched for
// (k_search.h).
void q4_k_to_floats(const void* from, float* to, int64_t elements);
void floats_to_q4_k(const float* from, void* to, int64_t elements);
void q5_k_to_floats(const void* from, float* to, int64_t elements);
void floats_to_q5_k(const float* from, void* to, int64_t elements);
void q6_k_to_floats(const void* from, float* to, int64_t elements);
void floats_to_q6_k(const float* from, void* to, int64_t elements);

}  // namespace moe
