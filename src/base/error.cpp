#include "base/error.h"

namespace moe {

void check_failed(const char* condition, const char* file, int line) {
  throw std::logic_error(fmt::format("{}:{}: internal check failed: {}; this is a mistake in moe, please report it",
                                     file, line, condition));
}

}  // namespace moe
