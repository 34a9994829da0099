#pragma once
/// How cached attention divides its work among thread blocks: arithmetic that needs no GPU. All tiles of keys of all
/// jobs and key heads are numbered, job after job, head after head, tile after tile. Every block takes as many
/// consecutive tiles. So long and short sequences together keep all blocks equally busy. The tiles of one head of one
/// job may end up in several blocks, and the last of these to finish adds their sums, in the order of the tiles.

#include <cstdint>

#ifdef __CUDACC__
#define MOE_HOST_DEVICE __host__ __device__
#else
#define MOE_HOST_DEVICE
#endif

namespace moe::cuda {

constexpr int kTileKeys = 64;     ///< keys of a tile; tiles begin at multiples of it
constexpr int kMostPieces = 33;   ///< blocks that share a head of a job: kPiecesAimed, and one as tiles begin anywhere
constexpr int kPiecesAimed = 32;  ///< more would keep the block that adds them busy for too long
constexpr int kMostJobTokens = 16;  ///< of a job

/// Tokens of one job: a power of two, so that their query heads of one key head are at most 16 rows (at least 1 token).
MOE_HOST_DEVICE constexpr int job_tokens(int group) {
  int tokens = kMostJobTokens;
  while (tokens > 1 && tokens * group > kMostJobTokens) tokens /= 2;
  return tokens;
}

struct KeySplit {
  int64_t total;  ///< tiles of all heads of all jobs
  int64_t per_block;

  /// `longest`: the most tiles of a job.
  MOE_HOST_DEVICE static KeySplit of(int64_t total, int64_t longest, int blocks) {
    const int64_t even = (total + blocks - 1) / blocks, least = (longest + kPiecesAimed - 1) / kPiecesAimed;
    const int64_t per_block = even > least ? even : least;
    return {total, per_block > 0 ? per_block : 1};
  }
  MOE_HOST_DEVICE int64_t begin(int block) const {
    const int64_t at = per_block * block;
    return at < total ? at : total;
  }
  /// The blocks that share the tiles [tile, tile + count) of one head of a job.
  MOE_HOST_DEVICE int first_block(int64_t tile) const { return static_cast<int>(tile / per_block); }
  MOE_HOST_DEVICE int last_block(int64_t tile, int64_t count) const {
    return static_cast<int>((tile + count - 1) / per_block);
  }
};

/// A block keeps the sums of at most two heads that it shares: one whose first tiles an earlier block has, and one that
/// a later block goes on with. So a place is used once, and `first_block` of a shared head is different for each.
MOE_HOST_DEVICE constexpr int64_t place_of_sums(int block, int first_block) {
  return int64_t{2} * block + (block == first_block ? 1 : 0);
}

}  // namespace moe::cuda
