# Builds the CUDA backend if a CUDA compiler is found; then MOE_CUDA is true. Otherwise src/backend/no_cuda replaces it.
#   MOE_WITH_CUDA            ON (default): build it when nvcc is found; OFF: never
#   MOE_CUDA_ARCHITECTURES   which GPUs to compile for: 80, 89, 90a, 100a, ... (machine code), 80-virtual (PTX), several with ;
#                            default: this machine's GPU; where there is none, 90a (Hopper) and PTX, from which the driver
#                            of any other GPU of compute capability 8.0 or newer compiles its own code at first use

option(MOE_WITH_CUDA "Build the CUDA backend when nvcc is found" ON)

# Sets `result` to the compute capability of this machine's GPU, in nvcc's spelling; empty if there is none.
function(moe_native_architecture result)
  set(${result} "" PARENT_SCOPE)
  find_program(NVIDIA_SMI nvidia-smi)
  if(NVIDIA_SMI)
    execute_process(COMMAND ${NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
      OUTPUT_VARIABLE capability ERROR_QUIET RESULT_VARIABLE status)
    if(status EQUAL 0 AND capability MATCHES "^([0-9]+)\\.([0-9])")
      set(architecture "${CMAKE_MATCH_1}${CMAKE_MATCH_2}")
      if(architecture GREATER_EQUAL 90)
        string(APPEND architecture a)
      endif()
      set(${result} ${architecture} PARENT_SCOPE)
    endif()
  endif()
endfunction()

set(MOE_CUDA OFF)
if(MOE_WITH_CUDA AND NOT MOE_SANITIZE)
  find_program(MOE_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin /usr/local/cuda/bin)
  if(MOE_NVCC)
    set(CMAKE_CUDA_COMPILER ${MOE_NVCC})
    set(CMAKE_CUDA_ARCHITECTURES OFF)  # flags are written out below: CMake 3.25 knows neither 90a nor CUDA 13's C++20
    enable_language(CUDA)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    find_package(CUDAToolkit REQUIRED)
    set(MOE_CUDA ON)
  endif()
endif()

if(MOE_CUDA)
  if(NOT MOE_CUDA_ARCHITECTURES)
    moe_native_architecture(MOE_CUDA_ARCHITECTURES)
    if(NOT MOE_CUDA_ARCHITECTURES)
      set(MOE_CUDA_ARCHITECTURES 80-virtual 90a)
    endif()
  endif()
  # Kernels for Hopper alone (hopper_*.cu, attention_hopper_*.cu) are compiled for nothing else where Hopper is among them.
  set(moe_gencode "")
  foreach(architecture ${MOE_CUDA_ARCHITECTURES})
    if(architecture MATCHES "^(.*)-virtual$")
      list(APPEND moe_gencode "-gencode=arch=compute_${CMAKE_MATCH_1},code=compute_${CMAKE_MATCH_1}")
    else()
      list(APPEND moe_gencode "-gencode=arch=compute_${architecture},code=sm_${architecture}")
    endif()
  endforeach()
  set(moe_hopper_gencode ${moe_gencode})
  if("90a" IN_LIST MOE_CUDA_ARCHITECTURES)
    set(moe_hopper_gencode "-gencode=arch=compute_90a,code=sm_90a")
  endif()
  message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION}, for ${MOE_CUDA_ARCHITECTURES}; "
    "cuBLASLt: ${CUDA_cublasLt_LIBRARY}")
else()
  message(STATUS "CUDA: no nvcc found (or MOE_WITH_CUDA is off); the program will compute on the CPU alone")
endif()

# moe_cuda_backend(): the layer backend/cuda, from CUDA sources or from the stand-ins.
function(moe_cuda_backend)
  if(MOE_CUDA)
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/backend/cuda/*.cu
      ${CMAKE_SOURCE_DIR}/src/backend/cuda/*.cpp)
    add_library(moe_backend_cuda STATIC ${sources})
    # fmt 9 treats nvcc as a compiler without constexpr
    target_compile_definitions(moe_backend_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:FMT_USE_CONSTEXPR=1>)
    # The warnings of C++ sources (cmake/layers.cmake), without -Wpedantic, which complains about every line directive that
    # nvcc writes. nvcc's own code adds parentheses.
    set(moe_cuda_warnings -Xcompiler=-Wall,-Wextra,-Wshadow,-Wno-parentheses,-Werror=missing-field-initializers,-Werror=return-type)
    if(MOE_WARNINGS_ARE_ERRORS)
      string(APPEND moe_cuda_warnings ,-Werror)
    endif()
    foreach(source ${sources})
      if(source MATCHES "/(attention_)?hopper_[^/]*\\.cu$")
        set_property(SOURCE ${source} APPEND PROPERTY COMPILE_OPTIONS ${moe_hopper_gencode})
      elseif(source MATCHES "\\.cu$")
        set_property(SOURCE ${source} APPEND PROPERTY COMPILE_OPTIONS ${moe_gencode})
      endif()
    endforeach()
    target_compile_options(moe_backend_cuda PRIVATE
      $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;${moe_cuda_warnings};-Xfatbin=-compress-all>)
    # For the error about a GPU for which the program has no code.
    string(REPLACE ";" ", " moe_code "${MOE_CUDA_ARCHITECTURES}")
    set_source_files_properties(${CMAKE_SOURCE_DIR}/src/backend/cuda/cuda_device.cu
      PROPERTIES COMPILE_DEFINITIONS "MOE_CUDA_CODE=\"${moe_code}\"")
    if("90a" IN_LIST MOE_CUDA_ARCHITECTURES)
      target_compile_definitions(moe_backend_cuda PRIVATE MOE_CUDA_HOPPER)
    endif()
    target_include_directories(moe_backend_cuda PUBLIC ${CMAKE_SOURCE_DIR}/src)
    if(NOT CUDA_cublasLt_LIBRARY)
      message(FATAL_ERROR "CUDA: no cuBLASLt in ${CUDAToolkit_LIBRARY_DIR}: install it, or configure with -DMOE_WITH_CUDA=OFF")
    endif()
    # cuBLASLt is loaded when a GPU is opened (src/backend/cuda/cublas_library.h), not linked.
    target_compile_definitions(moe_backend_cuda PRIVATE MOE_CUBLASLT_FILE="${CUDA_cublasLt_LIBRARY}")
    target_link_libraries(moe_backend_cuda PUBLIC moe_ops CUDA::cudart_static ${CMAKE_DL_LIBS})
  else()
    add_library(moe_backend_cuda STATIC ${CMAKE_SOURCE_DIR}/src/backend/no_cuda/cuda_backend.cpp)
    target_link_libraries(moe_backend_cuda PUBLIC moe_ops)
  endif()
endfunction()
