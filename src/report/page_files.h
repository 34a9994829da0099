#pragma once
/// The files that pages consist of.

#include <string_view>

namespace moe {

extern const std::string_view kFrameHtml, kStyleSheet, kCommonScript, kHeatScript;         // src/report/page/
extern const std::string_view kCurvesScript, kExpertsScript, kReportScript, kTraceScript;  // src/report/page/
/// chart.min.js of Chart.js; empty if it was missing when the program was built (cmake/pages.cmake).
extern const std::string_view kChartScript;

}  // namespace moe
