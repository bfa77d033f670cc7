"""Networks of the transformers library from a folder: its own forward pass, and no code run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from headstock.extract import audio_encoder, check_encoder, encoder_from_recipe
from headstock.store import Recipe
from headstock.store.errors import HeadstockError, OptionError, UnsafeInput, WeightsError

transformers = pytest.importorskip("transformers", reason="pip install 'headstock[hf]'")

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 32}  # fmt: skip
CONV = {**SMALL, "conv_dim": [8] * 7, "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2, "vocab_size": 8}  # fmt: skip
WHISPER = {
    "vocab_size": 64, "d_model": 16, "encoder_layers": 2, "decoder_layers": 1,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32, "num_mel_bins": 80, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 1, "max_source_positions": 200,
}  # fmt: skip
CLAP = {
    "audio_config": {
        "hidden_size": 32, "patch_embeds_hidden_size": 16, "depths": [1, 1],
        "num_attention_heads": [2, 2], "num_hidden_layers": 2, "projection_dim": 16,
    },
    "text_config": {**SMALL, "num_hidden_layers": 1, "vocab_size": 64, "projection_dim": 16},
    "projection_dim": 16,
}  # fmt: skip
KINDS = {
    "ast": ("AST", "ForAudioClassification", {**SMALL, "num_mel_bins": 32, "max_length": 64},
            "ASTFeatureExtractor", {"num_mel_bins": 32, "max_length": 64}),
    "wavlm": ("WavLM", "ForCTC", CONV, "Wav2Vec2FeatureExtractor", {"do_normalize": True}),
    "wav2vec2": ("Wav2Vec2", "Model", CONV, "Wav2Vec2FeatureExtractor", {}),
    "hubert": ("Hubert", "Model", CONV, "Wav2Vec2FeatureExtractor", {}),
    "whisper": ("Whisper", "ForConditionalGeneration", WHISPER, "WhisperFeatureExtractor",
                {"chunk_length": 4}),
    "clap": ("Clap", "Model", CLAP, "ClapFeatureExtractor", {"truncation": "rand_trunc"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{kind: (folder, the library's network, its front end)}, seeded."""
    out = {}
    for kind, (name, head, config, front, more) in KINDS.items():
        torch.manual_seed(0)
        settings = getattr(transformers, f"{name}Config")(**config)
        network = getattr(transformers, f"{name}{head}")(settings).eval()
        extractor = getattr(transformers, front)(**more)
        folder = tmp_path_factory.mktemp(kind)
        network.save_pretrained(folder)
        extractor.save_pretrained(folder)
        out[kind] = folder, network, extractor
    return out


def sound(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.05, len(t))
    return (0.3 * np.sin(2 * np.pi * 440 * t) + noise).astype(np.float32)


def given(extractor, samples):
    return extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt")


def test_ast(folders):
    """0.64 s a window: 1.5 s are two and one that ends with the sound."""
    folder, network, extractor = folders["ast"]
    samples = sound(1.5, 16_000)
    cuts = [samples[:10_240], samples[10_240:20_480], samples[-10_240:]]
    with torch.inference_mode():
        outs = [
            network.audio_spectrogram_transformer(given(extractor, cut)["input_values"])
            for cut in cuts
        ]
    own = np.mean([out.pooler_output[0].numpy() for out in outs], axis=0)
    encoder = audio_encoder(f"hf:{folder}")
    assert np.abs(encoder.encode([samples])[0] - own).max() < 1e-5
    steps = np.concatenate([out.last_hidden_state[0].numpy() for out in outs])
    expected = np.concatenate([steps.mean(0), steps.std(0), steps.max(0), steps[0]])
    more = audio_encoder(f"hf:{folder}", pool="mean+std+max+first")
    assert np.abs(more.encode([samples])[0] - expected).max() < 1e-5


@pytest.mark.parametrize("kind", ["wavlm", "wav2vec2", "hubert"])
def test_networks_of_waves(folders, kind):
    folder, network, extractor = folders[kind]
    base = getattr(network, kind, network)
    samples = sound(0.7, 16_000, 1)
    with torch.inference_mode():
        steps = base(given(extractor, samples)["input_values"]).last_hidden_state[0].numpy()
    encoder = audio_encoder(f"hf:{folder}")
    assert np.abs(encoder.encode([samples])[0] - steps.mean(0)).max() < 1e-5
    assert encoder.loader.rate == 16_000


def test_whisper_reads_its_encoder_and_the_steps_of_the_sound_alone(folders):
    folder, network, extractor = folders["whisper"]
    samples = sound(1.3, 16_000, 2)
    with torch.inference_mode():
        features = given(extractor, samples)["input_features"]
        steps = network.model.encoder(features).last_hidden_state[0].numpy()
    assert steps.shape[0] == 200
    encoder = audio_encoder(f"hf:{folder}", pool="mean+max")
    expected = np.concatenate([steps[:65].mean(0), steps[:65].max(0)])  # 20 ms a step
    assert np.abs(encoder.encode([samples])[0] - expected).max() < 1e-5


def test_clap(folders):
    folder, network, extractor = folders["clap"]
    samples = sound(2, 48_000, 3)
    with torch.inference_mode():
        out = network.get_audio_features(**given(extractor, samples))
    own = (out if isinstance(out, torch.Tensor) else out.pooler_output)[0].numpy()
    encoder = audio_encoder(f"hf:{folder}")
    assert np.abs(encoder.encode([samples])[0] - own).max() < 1e-5
    long = sound(25, 48_000, 4)
    assert np.array_equal(
        encoder.encode([long]), encoder.encode([long])
    )  # nothing is cut at random


@pytest.mark.parametrize("kind", ["ast", "wavlm", "whisper"])
def test_the_contract_and_the_recipe(folders, kind):
    folder, _, _ = folders[kind]
    check_encoder(lambda: audio_encoder(f"hf:{folder}"))
    encoder = audio_encoder(f"hf:{folder}", duration=2)
    again = encoder_from_recipe(encoder.recipe(), provenance=encoder.provenance())
    named = encoder_from_recipe(encoder.recipe(), weights_hint=folder / "model.safetensors")
    assert named.recipe() == encoder.recipe()
    samples = sound(0.9, 16_000)
    assert np.array_equal(again.encode([samples]), encoder.encode([samples]))
    with pytest.raises(WeightsError, match="not where it was"):
        encoder_from_recipe(encoder.recipe(), provenance={"weights": "/nowhere"})


def changed(folder: Path, target: Path, name: str, **fields) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    said = {**json.loads((folder / name).read_text()), **fields}
    (target / name).write_text(json.dumps(said))
    return target


WRONG = [
    {"auto_map": {"AutoModel": "code.Evil"}}, {"quantization_config": {"quant_method": "x"}},
    {"model_type": "../x"}, {"model_type": "bert"}, {"model_type": None}, {"model_type": ["wavlm"]},
    {"hidden_size": "16; rm"}, {"hidden_size": 10**12}, {"hidden_size": -1}, {"hidden_size": 8},
    {"hidden_size": {"x": 1}}, {"hidden_size": 17}, {"num_hidden_layers": 10**6},
    {"num_hidden_layers": 3}, {"num_attention_heads": 0}, {"hidden_act": "os.system('x')"},
    {"hidden_act": "no_such"}, {"conv_dim": [[8]] * 7}, {"conv_dim": [8] * 10_000},
    {"conv_kernel": [10**9] * 7}, {"layer_norm_eps": "x"},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: str(wrong)[:50])
def test_each_field_of_a_configuration_ends_in_one_line(folders, tmp_path, wrong):
    folder = changed(folders["wavlm"][0], tmp_path / "f", "config.json", **wrong)
    with pytest.raises(HeadstockError) as caught:
        audio_encoder(f"hf:{folder}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    "wrong",
    [{"sampling_rate": 0}, {"sampling_rate": "x y"}, {"sampling_rate": 10**9},
     {"feature_size": {"a": 1}}, {"auto_map": {"AutoFeatureExtractor": "code.Evil"}},
     {"padding_value": "a/b"}],
    ids=str,
)  # fmt: skip
def test_each_field_of_a_front_end_ends_in_one_line(folders, tmp_path, wrong):
    folder = changed(folders["wavlm"][0], tmp_path / "f", "preprocessor_config.json", **wrong)
    with pytest.raises(HeadstockError) as caught:
        audio_encoder(f"hf:{folder}")
    assert "\n" not in str(caught.value)


def test_nothing_in_the_folder_is_run_or_fetched(folders, tmp_path, monkeypatch):
    """Neither code beside the weights, nor pickles, nor an adapter that names another network."""
    folder = changed(folders["wavlm"][0], tmp_path / "f", "config.json", architectures=["Evil"])
    (folder / "code.py").write_text("raise SystemExit('run')")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "attacker/model"}')
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n.")

    def trap(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", trap)
    monkeypatch.setattr("socket.getaddrinfo", trap)
    assert audio_encoder(f"hf:{folder}").dim == 16
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"no model\.safetensors"):
        audio_encoder(f"hf:{folder}")
    (folder / "model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(WeightsError, match="is no safetensors file"):
        audio_encoder(f"hf:{folder}")
    for odd in ("hf:", f"hf:{tmp_path / 'absent'}", f"hf:{tmp_path}"):
        with pytest.raises(HeadstockError):
            audio_encoder(odd)


def test_options_without_meaning(folders):
    folder = folders["wavlm"][0]
    for wrong in ({"pool": "own"}, {"pool": "median"}, {"pool": "mean+mean"}, {"window": 0},
                  {"window": 11}, {"window": "x"}, {"duration": 0}, {"colour": 1}):  # fmt: skip
        with pytest.raises(OptionError):
            audio_encoder(f"hf:{folder}", **wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"config": 1}, {"front": []}, {"pool": "mean"}, {"pool": [1]}, {"window": "x"},
     {"window": 1e9}, {"weights": 3}, {"config": {"model_type": "wavlm", "hidden_size": "x y"}}],
    ids=str,
)  # fmt: skip
def test_each_field_of_a_recipe_ends_in_one_line(folders, wrong):
    encoder = audio_encoder(f"hf:{folders['wavlm'][0]}")
    recipe = Recipe("audio", {**encoder.recipe().fields, **wrong})
    with pytest.raises((OptionError, UnsafeInput, WeightsError)) as caught:
        encoder_from_recipe(recipe, provenance=encoder.provenance())
    assert "\n" not in str(caught.value)
