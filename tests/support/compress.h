#pragma once
/// Compressed forms of a text, one member or frame each; a test that includes this links zlib and libzstd.

#include <stdexcept>
#include <string>

#include <zlib.h>
#include <zstd.h>

namespace moe::test {

inline std::string gzip(const std::string& text) {
  z_stream state{};
  constexpr int gzip_only = 16;
  if (deflateInit2(&state, 6, Z_DEFLATED, MAX_WBITS + gzip_only, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    throw std::runtime_error("deflateInit2 failed");
  }
  std::string bytes(deflateBound(&state, text.size()) + 64, '\0');
  state.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  state.avail_in = static_cast<uInt>(text.size());
  state.next_out = reinterpret_cast<Bytef*>(bytes.data());
  state.avail_out = static_cast<uInt>(bytes.size());
  const int status = deflate(&state, Z_FINISH);
  bytes.resize(state.total_out);
  deflateEnd(&state);
  if (status != Z_STREAM_END) throw std::runtime_error("deflate failed");
  return bytes;
}

// With a checksum, as the zstd program writes it.
inline std::string zstd(const std::string& text) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  std::string bytes(ZSTD_compressBound(text.size()), '\0');
  const size_t size = ZSTD_compress2(context, bytes.data(), bytes.size(), text.data(), text.size());
  ZSTD_freeCCtx(context);
  if (ZSTD_isError(size)) throw std::runtime_error(ZSTD_getErrorName(size));
  bytes.resize(size);
  return bytes;
}

}  // namespace moe::test
