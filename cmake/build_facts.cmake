# Writes OUTPUT, the definition of kBuildFacts (src/cli/build_facts.h), if it has changed.
# Run at every build: cmake -DOUTPUT=... -DSOURCE=... -DVERSION=... -DBUILT_WITH=... -P build_facts.cmake

# An archive made by git has its commit in commit.txt. In a clone, git is asked.
file(READ ${SOURCE}/cmake/commit.txt commit)
string(STRIP "${commit}" commit)
if(commit MATCHES "Format")
  set(commit "")
  find_program(GIT git)
  if(GIT)
    execute_process(COMMAND ${GIT} -C ${SOURCE} describe --always --dirty=+changes --exclude=* --abbrev=9
      OUTPUT_VARIABLE commit ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  endif()
endif()
if(NOT commit)
  set(commit "unknown")
endif()

file(CONFIGURE OUTPUT ${OUTPUT} @ONLY CONTENT [=[
#include "cli/build_facts.h"

namespace moe {

const BuildFacts kBuildFacts = {.version = "@VERSION@", .commit = "@commit@", .built_with = "@BUILT_WITH@"};

}  // namespace moe
]=])
