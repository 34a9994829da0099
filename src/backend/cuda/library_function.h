#pragma once
/// Functions of a library that is loaded when it is needed.

#include <string>

#include <dlfcn.h>

#include "base/error.h"

namespace moe::cuda {

/// Sets `function` to the one called `name`. If there is none, an Error says so, and what to `install`. Any thread may
/// call it.
template <class Function>
void find_function(void* library, const char* name, const std::string& install, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) fail("the library has no function {}: install {}", name, install);
}

}  // namespace moe::cuda
