#include "infer/not_finite_place.h"

#include <exception>

#include "infer/scorer.h"
#include "tensor/finite.h"

namespace moe {

std::string not_finite_place(const ModelOnDevice& runtime, std::span<const int32_t> ids) {
  if (runtime.leader != nullptr) return "";  // the other ranks would have to look for it too
  try {
    const Batch batch = single_document(ids);
    Scorer scorer(runtime, static_cast<int64_t>(ids.size()));
    const int64_t vocabulary = runtime.model.config().vocab_size;
    bool finite = true;
    scorer.logits(batch, [&](int64_t, int64_t rows, const float* values) {
      finite = finite && first_not_finite(DType::f32, values, rows * vocabulary) < 0;
    });
    if (!finite) scorer.fail_not_finite(batch);
  } catch (const NotFinite& found) {
    return "; the first are " + found.where;
  } catch (const std::exception&) {  // the first error says what matters
  }
  return "";
}

}  // namespace moe
