"""All commands, with the class of their options."""

from transferkit.options.audit import AuditOptions
from transferkit.options.backbones import BackbonesOptions
from transferkit.options.cache import CacheOptions
from transferkit.options.compare import CompareOptions
from transferkit.options.declaration import Options
from transferkit.options.evaluate import EvaluateOptions
from transferkit.options.explain import ExplainOptions
from transferkit.options.export import ExportOptions
from transferkit.options.extract_features import ExtractFeaturesOptions
from transferkit.options.finetune import FinetuneOptions
from transferkit.options.inspect import InspectOptions
from transferkit.options.predict import PredictOptions
from transferkit.options.report import ReportOptions
from transferkit.options.serve import ServeOptions

COMMANDS: dict[str, type[Options]] = {
    "finetune": FinetuneOptions,
    "extract-features": ExtractFeaturesOptions,
    "predict": PredictOptions,
    "evaluate": EvaluateOptions,
    "explain": ExplainOptions,
    "serve": ServeOptions,
    "export": ExportOptions,
    "report": ReportOptions,
    "compare": CompareOptions,
    "audit": AuditOptions,
    "backbones": BackbonesOptions,
    "inspect": InspectOptions,
    "cache": CacheOptions,
}
