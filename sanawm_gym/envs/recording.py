"""Videos of episodes with every raw frame.

Gymnasium's `RecordVideo` takes one picture a step, also from environments whose `render` returns a
list; a decision of 0.25 s is four pictures here. This wrapper is used the same way and writes all
of them, one by one as they come, so memory does not grow with the episode.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from sanawm_gym.video import VideoWriter


class RecordVideo(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Writes `<video_folder>/<name_prefix>-episode-<n>.mp4` for chosen episodes.

    A video holds what `render` returned: with `rgb_array_list` the picture at the reset and every
    raw frame after it. `render` can still be called, and then returns what the last step showed.

    Args:
        env: Environment with render mode `rgb_array_list` or `rgb_array`.
        video_folder: Where the videos go; made if missing.
        episode_trigger: Tells from the number of an episode whether it is recorded; by default the
            cubes up to 1000 and every thousandth after that, as in Gymnasium.
        name_prefix: Begin of the file names.
        fps: Frames a second; by default the environment's `render_fps`.

    Raises:
        ValueError: If the environment renders no pictures.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        video_folder: str | Path,
        episode_trigger: Callable[[int], bool] | None = None,
        name_prefix: str = "rl-video",
        fps: float | None = None,
    ) -> None:
        """See the class."""
        RecordConstructorArgs.__init__(
            self,
            video_folder=video_folder,
            episode_trigger=episode_trigger,
            name_prefix=name_prefix,
            fps=fps,
        )
        super().__init__(env)
        if env.render_mode not in ("rgb_array", "rgb_array_list"):
            raise ValueError(
                f"RecordVideo: got render_mode={env.render_mode!r}, expected 'rgb_array_list' "
                "(every raw frame) or 'rgb_array'; pass it to gymnasium.make"
            )
        self.video_folder = Path(video_folder)
        self.fps = float(env.metadata["render_fps"] if fps is None else fps)
        self.episode = -1
        self._trigger = episode_trigger or cubic_schedule
        self._prefix = name_prefix
        self._video: VideoWriter | None = None
        self._newest: list[Any] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, and a video if the trigger says so."""
        result = self.env.reset(seed=seed, options=options)
        self._finish()
        self.episode += 1
        if self._trigger(self.episode):
            path = self.video_folder / f"{self._prefix}-episode-{self.episode}.mp4"
            self._video = VideoWriter(path, self.fps)
        self._record()
        return result

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take an action and record what it showed."""
        result = self.env.step(action)
        self._record()
        _, _, terminated, truncated, _ = result
        if terminated or truncated:
            self._finish()
        return result

    def render(self) -> Any:
        """What the environment renders, recorded or not."""
        if self.env.render_mode == "rgb_array":
            return self.env.render()
        frames, self._newest = self._newest + self._rendered(), []
        return frames

    def close(self) -> None:
        """Finish the video in progress and close the environment."""
        self._finish()
        super().close()

    def _record(self) -> None:
        if self._video is None:
            return
        self._newest = self._rendered()
        for frame in self._newest:
            self._video.append(frame)

    def _rendered(self) -> list[Any]:
        rendered: Any = self.env.render()
        return rendered if isinstance(rendered, list) else [rendered]

    def _finish(self) -> None:
        if self._video is not None:
            self._video.close()
            self._video = None


def cubic_schedule(episode: int) -> bool:
    """Whether an episode's number is a cube (0, 1, 8, 27, ...), from 1000 on whole thousands."""
    if episode >= 1000:
        return episode % 1000 == 0
    return bool(round(episode ** (1 / 3)) ** 3 == episode)
