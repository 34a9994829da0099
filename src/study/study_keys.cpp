// One row per key: src/model/key_rows.h says how to add one.

#include "study/study_keys.h"

namespace moe {
namespace {

using File = StudyFile;

constexpr KeyRow<File> kRows[] = {
    row<File>("study.dir", text<&File::dir>(), {.doc = "the study's folder"}),
    row<File>("study.title", text<&File::title>(),
              {.doc = "of the table and the plots", .shown_default = "the file's name"}),
    row<File>("study.seeds", integers<&File::seeds>(0, std::numeric_limits<int64_t>::max()),
              {.doc = "every system is trained once with each", .also = "seed"}),
    row<File>("study.systems", texts<&File::systems>(),
              {.doc = "`\"NAME: KEY=VALUE KEY=VALUE\"`: the run file with these keys over it; needed without a grid",
               .also = "models runs jobs"}),
    row<File>("study.grid", texts<&File::grid>(),
              {.doc = "`\"NAME: KEY=VALUE,VALUE\"`: every system with each of these values, named SYSTEM-NAMEVALUE. Of "
                      "several lines, every combination",
               .also = "sweep product axes"}),
    row<File>(
        "study.where_possible", texts<&File::where_possible>(),
        {.doc = "`\"KEY=VALUE\"`: for all systems that take it; a system's own keys count more. `--dry-run` lists "
                "the systems that do not take it",
         .also = "overrides defaults"}),
    row<File>("study.budget", word<&File::budget, Budget::tokens, Budget::flops, Budget::seconds>(),
              {.doc = "what every system may use up (below)"}),
    row<File>("study.reference", text<&File::reference>(),
              {.doc = "the system that trains the file's `train.steps` where the budget is not tokens",
               .shown_default = "the first system"}),
    row<File>("study.baseline", text<&File::baseline>(),
              {.doc = "the system that all others are compared with, in pairs (below)",
               .also = "compare_with control",
               .shown_default = "the first system"}),
    row<File>(
        "study.mask_sixteenths", integers<&File::mask_sixteenths>(0, 8),
        {.doc = "evaluate with this many sixteenths of a system's experts, each token's best ones, passed over (the "
                "paper's Figure 4)"}),
    row<File>(
        "study.switches", boolean<&File::switches>(),
        {.doc = "evaluate with fewer routed experts (Figure 5), and with a routed one in place of each shared one "
                "(section 4.5)"}),
    row<File>("study.bars", texts<&File::bars>(), {.doc = "`\"NAME: SYSTEM SYSTEM\"`: a plot of these systems alone"}),
    row<File>("study.keep_checkpoints", boolean<&File::keep_checkpoints>(),
              {.doc = "keep the checkpoints of jobs that have a result"}),
};

}  // namespace

std::span<const KeyRow<StudyFile>> study_keys() { return kRows; }

}  // namespace moe
