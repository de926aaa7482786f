import socket

import pytest

from t2bench.runner.channel import Channel, ChannelClosed, DeadlinePassed


@pytest.fixture
def pair():
    a, b = socket.socketpair()
    yield a, Channel(b)
    a.close()
    b.close()


def test_messages_arrive_whole_however_they_are_cut(pair):
    raw, channel = pair
    raw.sendall(b'{"a":1}\n{"b"')
    assert channel.receive(1.0) == {"a": 1}
    with pytest.raises(DeadlinePassed):
        channel.receive(0.01)
    raw.sendall(b":2}\n")
    assert channel.receive(1.0) == {"b": 2}


def test_a_truncated_reply_and_a_reply_that_is_no_object_end_the_channel(pair):
    raw, channel = pair
    raw.sendall(b'{"a":1}\n[1]\n{"half":')
    assert channel.receive(1.0) == {"a": 1}
    with pytest.raises(ChannelClosed):
        channel.receive(1.0)
    raw.close()
    with pytest.raises(ChannelClosed):
        channel.receive(1.0)


def test_sending_to_nobody_is_noticed(pair):
    raw, channel = pair
    raw.close()
    with pytest.raises(ChannelClosed):
        channel.send({"x": "y" * 1_000_000})
