#pragma once
/// The tensors of a model in a GGUF file, as llama.cpp names them, and the parts of our parameters that they hold.

#include <string>
#include <vector>

#include "model/parameters.h"

namespace moe {

/// Rows [row, row + rows) of a tensor, which are consecutive rows of one of our parameters from element `begin` on.
/// With `heads` the rows of each head are interleaved in the file: row 2 i + p of a head there is row p half + i here.
struct GgufPart {
  size_t parameter;
  int64_t begin;
  int64_t row, rows;
  int64_t heads = 0;
};

struct GgufName {
  std::string name;
  std::vector<int64_t> shape;  ///< outermost first
  ParameterKind kind;
  int64_t layer;                ///< -1: outside the layers
  std::vector<GgufPart> parts;  ///< in the order of rows; they cover the tensor

  int64_t width() const { return shape.back(); }
  int64_t elements() const;
  /// The part that holds a row.
  const GgufPart& part(int64_t row) const;
};

/// The row of the parameter's part that the file has as row `row` of the part; both count from the part's begin.
int64_t gguf_row_to_ours(const GgufPart& part, int64_t row);
/// The other direction.
int64_t our_row_to_gguf(const GgufPart& part, int64_t row);

/// Every element of every parameter exactly once; embedding, layers, norm, head. A parameter that these files have no
/// name for is an error that names it.
std::vector<GgufName> gguf_names(const ModelConfig& config, const std::vector<Parameter>& table);

}  // namespace moe
