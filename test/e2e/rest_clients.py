"""ThingsBoard's REST clients, unmodified, do what their users do with devices, profiles, credentials, attributes, telemetry, calls and rule chains.

rest_clients.py URL EMAIL PASSWORD DEVICE     DEVICE is the id of a connected device that answers calls with what it was asked

It prints the name of each part that was done, and ends with an error at the first thing that is not as it should be.
"""
import json
import sys
import uuid

import tb_ce_client
import tb_rest_client
from tb_ce_client.exceptions import ApiException as CeError
from tb_ce_client.models import device as ce_device
from tb_ce_client.models import device_profile as ce_profile
from tb_ce_client.models.rule_chain import RuleChain as CeChain
from tb_ce_client.models.rule_chain_data import RuleChainData as CeChains
from tb_ce_client.models.rule_chain_meta_data import RuleChainMetaData as CeMetadata
from tb_rest_client.rest import ApiException as RestError
from tb_rest_client.models import Device as RestDevice
from tb_rest_client.models import NodeConnectionInfo, RuleChain, RuleChainMetaData, RuleNode

ASK = {"method": "set", "params": {"a": 1}, "timeout": 5000}
ECHO = {"echo": {"a": 1}, "method": "set"}


def same(got, want, what):
    if got != want:
        raise AssertionError("%s: got %r, want %r" % (what, got, want))


def refused(status, kind, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind as e:
        same(e.status, status, call.__name__)
        return
    raise AssertionError("%s was not refused" % call.__name__)


def as_json(answer):
    """The clients give JSON as its text, or as what it stands for."""
    return json.loads(answer.replace("'", '"')) if isinstance(answer, str) else answer


def part(name):
    print(name, flush=True)


def ce_devices(tb):
    device = tb.save_device(ce_device.Device(name="ce 1", label="first"), access_token="CE_1")
    id = str(device.id.id)
    same((device.name, device.label, device.type), ("ce 1", "first", "default"), "the new device")
    device.label = "second"
    same(tb.save_device(device).label, "second", "the changed device")
    same(tb.get_device_by_id(id).label, "second", "the device read again")
    info = tb.get_device_info_by_id(id)
    same((info.device_profile_name, info.active), ("default", False), "the device's info")
    same([d.name for d in tb.get_devices_by_ids([id])], ["ce 1"], "devices by ids")
    same(tb.get_tenant_device_by_name("ce 1").name, "ce 1", "the device by name")
    same([d.name for d in tb.get_tenant_devices(10, 0, text_search="ce 1").data], ["ce 1"], "devices of the tenant")
    same([d.name for d in tb.get_tenant_device_infos(10, 0, text_search="ce 1").data], ["ce 1"], "infos of devices")
    assert "default" in [t.type for t in tb.get_device_types()]
    credentials = tb.get_device_credentials_by_device_id(id)
    same(credentials.credentials_id, "CE_1", "the access token")
    credentials.credentials_id = "CE_2"
    same(tb.update_device_credentials(credentials).credentials_id, "CE_2", "the changed token")
    refused(400, CeError, tb.save_device, ce_device.Device(name="ce 1"))
    tb.delete_device(id)
    refused(404, CeError, tb.get_device_by_id, id)
    part("devices")


def ce_profiles(tb):
    profile = tb.save_device_profile(ce_profile.DeviceProfile(name="ce profile", type="DEFAULT", transport_type="DEFAULT"))
    id = str(profile.id.id)
    same(tb.get_device_profile_by_id(id).name, "ce profile", "the profile")
    same(tb.get_device_profile_info_by_id(id).name, "ce profile", "the profile's info")
    assert "ce profile" in [p.name for p in tb.get_device_profile_names()]
    assert "ce profile" in [p.name for p in tb.get_device_profiles(100, 0).data]
    assert "ce profile" in [p.name for p in tb.get_device_profile_infos(100, 0).data]
    same(tb.get_device_profile_infos_by_ids([id])[0].name, "ce profile", "profiles by ids")
    same(tb.get_default_device_profile_info().name, "default", "the default profile")
    tb.delete_device_profile(id)
    refused(404, CeError, tb.get_device_profile_by_id, id)
    part("profiles")


def ce_values(tb, device):
    tb.save_entity_attributes_v2("DEVICE", device, "SHARED_SCOPE", json.dumps({"interval": 30}))
    tb.save_device_attributes(device, "SERVER_SCOPE", json.dumps({"place": "roof"}))
    same(sorted(tb.get_attribute_keys("DEVICE", device)), ["interval", "place"], "keys of attributes")
    same(tb.get_attribute_keys_by_scope("DEVICE", device, "SERVER_SCOPE"), ["place"], "keys of a scope")
    same([(a.key, a.value) for a in tb.get_attributes("DEVICE", device, keys="interval")], [("interval", 30)], "attributes")
    tb.delete_entity_attributes("DEVICE", device, "SERVER_SCOPE", keys="place")
    same(tb.get_attribute_keys_by_scope("DEVICE", device, "SERVER_SCOPE"), [], "keys that are left")
    tb.save_entity_telemetry("DEVICE", device, "ANY", json.dumps({"ts": 1700000000000, "values": {"temperature": 21.5}}))
    same(tb.get_timeseries_keys("DEVICE", device), ["temperature"], "keys of time series")
    latest = tb.get_latest_timeseries("DEVICE", device, keys="temperature", use_strict_data_types=True)
    same([(v.ts, v.value) for v in latest["temperature"]], [(1700000000000, 21.5)], "the latest value")
    assert "temperature" in tb.get_device_profile_timeseries_keys()
    tb.delete_entity_timeseries("DEVICE", device, keys="temperature", delete_all_data_for_keys=True)
    same(tb.get_timeseries_keys("DEVICE", device), [], "keys that are left")
    refused(404, CeError, tb.get_attribute_keys, "ASSET", device)
    part("values")


def ce_calls(tb, device):
    body = json.dumps(ASK)
    for call in tb.handle_two_way_device_rpc_request_v2, tb.handle_two_way_device_rpc_request_v1:
        same(as_json(call(device, body)), ECHO, "a two-way call")
    for call in tb.handle_one_way_device_rpc_request_v2, tb.handle_one_way_device_rpc_request_v1:
        call(device, body)
    stored = as_json(tb.handle_two_way_device_rpc_request_v2(device, json.dumps({**ASK, "persistent": True})))["rpcId"]
    record = tb.get_persisted_rpc(stored)
    while str(record.status).split(".")[-1] != "SUCCESSFUL":
        assert str(record.status).split(".")[-1] in ("QUEUED", "SENT", "DELIVERED"), record.status
        record = tb.get_persisted_rpc(stored)
    same(record.response, ECHO, "the stored answer")
    assert stored in str(tb.get_persisted_rpc_by_device(device, 10, 0))
    tb.delete_rpc(stored)
    refused(404, CeError, tb.get_persisted_rpc, stored)
    refused(404, CeError, tb.handle_two_way_device_rpc_request_v2, str(uuid.uuid4()), body)
    part("calls")


SWITCH = "org.thingsboard.rule.engine.filter.TbMsgTypeSwitchNode"
REQUEST = "org.thingsboard.rule.engine.rpc.TbSendRPCRequestNode"


def ce_chains(tb):
    [was] = [c for c in tb.get_rule_chains(100, 0).data if c.root]
    chain = tb.save_rule_chain(CeChain(name="ce chain", type="CORE"))
    id = str(chain.id.id)
    chain.name = "ce chain, renamed"
    same(tb.save_rule_chain(chain).name, "ce chain, renamed", "the changed chain")
    same(tb.get_rule_chain_by_id(id).name, "ce chain, renamed", "the chain read again")
    saved = tb.save_rule_chain_meta_data(CeMetadata.from_dict({
        "ruleChainId": {"entityType": "RULE_CHAIN", "id": id}, "firstNodeIndex": 0, "ruleChainConnections": [],
        "nodes": [
            {"type": SWITCH, "name": "by type", "configuration": {"version": 0}, "additionalInfo": {"layoutX": 300, "layoutY": 150}},
            {"type": REQUEST, "name": "send", "configuration": {"timeoutInSeconds": 40}},
        ],
        "connections": [{"fromIndex": 0, "toIndex": 1, "type": "RPC Request to Device"}],
    }))
    same([n.name for n in saved.nodes], ["by type", "send"], "the saved nodes")
    nodes = tb.get_rule_chain_meta_data(id)
    same((nodes.nodes[1].type, nodes.nodes[1].configuration["timeoutInSeconds"]), (REQUEST, 40), "the second node")
    same([(c.from_index, c.to_index, c.type) for c in nodes.connections], [(0, 1, "RPC Request to Device")], "the connections")
    same([c.name for c in tb.get_rule_chains_by_ids([id])], ["ce chain, renamed"], "chains by ids")
    same(tb.get_rule_chain_output_labels(id), [], "labels of outputs")

    same(tb.set_root_rule_chain(id).root, True, "the new root")
    refused(400, CeError, tb.delete_rule_chain, id)
    tb.set_root_rule_chain(str(was.id.id))

    everything = tb.export_rule_chains(1000)
    one = CeChains(
        rule_chains=[c for c in everything.rule_chains if c.name == "ce chain, renamed"],
        metadata=[m for m in everything.metadata if str(m.rule_chain_id.id) == id],
    )
    same((len(one.rule_chains), len(one.metadata)), (1, 1), "the exported chain")
    [again] = tb.import_rule_chains(one, overwrite=True)
    same((again.rule_chain_name, again.updated), ("ce chain, renamed", True), "the chain that was imported over itself")
    [copy] = tb.import_rule_chains(one, overwrite=False)
    same(copy.updated, False, "the copy")
    ids = [str(c.id.id) for c in tb.get_rule_chains(100, 0, text_search="ce chain, renamed").data]
    same(len(ids), 2, "chains of this name")
    for each in ids:
        tb.delete_rule_chain(each)
    refused(404, CeError, tb.get_rule_chain_by_id, id)
    part("chains")


def rest_chains(tb):
    chains = tb.rule_chain_controller
    [was] = [c for c in chains.get_rule_chains(page_size=100, page=0).data if c.root]
    made = chains.save_rule_chain(body=RuleChain(name="rest chain", type="CORE"))
    same(made.name, "rest chain", "the new chain")
    id = str(made.id.id)
    saved = chains.save_rule_chain_meta_data(body=RuleChainMetaData(
        rule_chain_id=made.id, first_node_index=0, rule_chain_connections=[],
        nodes=[
            RuleNode(type=SWITCH, name="by type", configuration={"version": 0}, additional_info={}),
            RuleNode(type=REQUEST, name="send", configuration={"timeoutInSeconds": 40}, additional_info={}),
        ],
        connections=[NodeConnectionInfo(from_index=0, to_index=1, type="RPC Request to Device")],
    ))
    same([n.name for n in saved.nodes], ["by type", "send"], "the saved nodes")
    same(len(chains.get_rule_chain_meta_data(id).connections), 1, "connections")
    same(chains.get_rule_chain_by_id(id).name, "rest chain", "the chain")
    same(chains.set_root_rule_chain(id).root, True, "the new root")
    chains.set_root_rule_chain(str(was.id.id))
    exported = chains.export_rule_chains(1000)
    assert "rest chain" in [c.name for c in exported.rule_chains]
    assert all(i.updated for i in chains.import_rule_chains(body=exported, overwrite=True))
    chains.delete_rule_chain(id)
    refused(404, RestError, chains.get_rule_chain_by_id, id)
    part("chains")


def ce_users(tb, email):
    user = tb.get_user()
    same((user.email, str(user.authority).split(".")[-1]), (email, "TENANT_ADMIN"), "who I am")
    same(tb.get_user_by_id(str(user.id.id)).email, email, "my user")
    assert tb.get_tenant_by_id(str(user.tenant_id.id)).title
    assert tb.get_user_password_policy().minimum_length
    part("users")


def rest_all(tb, device):
    made = tb.device_controller.save_device(RestDevice(name="rest 1", type="default"), access_token="REST_1")
    id = str(made.id.id)
    same(tb.device_controller.get_device_by_id(id).name, "rest 1", "the device")
    same(tb.device_controller.get_device_credentials_by_device_id(id).credentials_id, "REST_1", "the token")
    assert "rest 1" in [d.name for d in tb.device_controller.get_tenant_devices(100, 0).data]
    assert "rest 1" in [d.name for d in tb.device_controller.get_all_device_infos(100, 0).data]
    assert "rest 1" in [d.name for d in tb.device_controller.get_user_devices(100, 0).data]
    same([d.name for d in tb.device_controller.get_devices_by_ids(id)], ["rest 1"], "devices by ids")
    same(tb.device_profile_controller.get_default_device_profile_info().name, "default", "the default profile")
    values = tb.telemetry_controller
    values.save_device_attributes({"limit": 5}, id, "SHARED_SCOPE")
    assert "limit" in str(values.get_attributes_by_scope("DEVICE", id, "SHARED_SCOPE"))
    values.save_entity_telemetry({"humidity": 40}, "DEVICE", id, "ANY")
    assert "40" in str(values.get_latest_timeseries("DEVICE", id))
    tb.device_controller.delete_device(id)
    refused(404, RestError, tb.device_controller.get_device_by_id, id)
    body = json.dumps(ASK)
    same(as_json(tb.rpc_v2_controller.handle_two_way_device_rpc_request_v2(device_id=device, body=body)), ECHO, "a two-way call")
    same(as_json(tb.rpc_v1_controller.handle_two_way_device_rpc_request_v1(device_id=device, body=body)), ECHO, "a two-way call")
    tb.rpc_v2_controller.handle_one_way_device_rpc_request_v2(device_id=device, body=body)
    part("tb-rest-client")


def main():
    url, email, password, device = sys.argv[1:]
    with tb_ce_client.ThingsboardClient(url, username=email, password=password) as tb:
        ce_users(tb, email)
        ce_devices(tb)
        ce_profiles(tb)
        ce_values(tb, device)
        ce_calls(tb, device)
        ce_chains(tb)
    with tb_rest_client.RestClient(base_url=url) as tb:
        tb.login(username=email, password=password)
        rest_all(tb, device)
        rest_chains(tb)


main()
