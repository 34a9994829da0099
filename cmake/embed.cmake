# Files of the source tree that the program writes for its users, as strings in the program.

# moe_embed(TARGET FILE HEADER NAME): the text of FILE is moe::NAME, which HEADER declares as a std::string_view. A relative
# FILE is in the source tree.
function(moe_embed target file header name)
  cmake_path(ABSOLUTE_PATH file BASE_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  file(READ ${file} text)
  set(source ${CMAKE_BINARY_DIR}/embedded_${name}.cpp)
  file(CONFIGURE OUTPUT ${source} @ONLY CONTENT
    "#include \"${header}\"\n\nnamespace moe {\n\nconst std::string_view ${name} = R\"embedded(@text@)embedded\";\n\n}  // namespace moe\n")
  target_sources(${target} PRIVATE ${source})
endfunction()
