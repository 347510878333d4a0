package api

import (
	"net/http"

	"callchain/api/openapi"
)

// naming are the parameters that freeName reads.
func naming(more ...openapi.Parameter) []openapi.Parameter {
	return append(more,
		ask("nameConflictPolicy", "What to do if the name is taken.", enum("FAIL", "UNIQUIFY")),
		ask("uniquifySeparator", "Stands between the name and what makes it unique; _ if left out.", text),
		ask("uniquifyStrategy", "RANDOM or INCREMENTAL: what makes the name unique.", text))
}

func deviceOperations() operations {
	conflict := []int{http.StatusNotFound, http.StatusConflict}
	devices := openapi.Operation{
		Summary: "Devices of the tenant, or with deviceName the one with that name.", Answer: openapi.AnyOf{pageOf[deviceView]{}, deviceView{}}, Codes: []int{http.StatusNotFound},
		Query: paging(ask("type", "Only devices of the profile with this name.", text), ask("deviceName", "The name of one.", text)),
	}
	infos := openapi.Operation{
		Summary: "Devices of the tenant, and whether they are connected.", Answer: pageOf[deviceInfoView]{},
		Query: paging(ask("type", "Only devices of the profile with this name.", text), ask("deviceProfileId", "Only devices of this profile.", maybeID)),
	}
	return operations{
		"GET /api/tenant/devices": devices, "GET /api/user/devices": devices, "GET /api/tenant/deviceInfos": infos, "GET /api/deviceInfos/all": infos,
		"POST /api/device": {
			Summary: "Makes a device, or changes the one with the id given.", Body: deviceBody{}, Needs: []string{"name"}, Answer: deviceView{}, Codes: conflict,
			Query: naming(ask("accessToken", "The new device's access token; a random one if left out.", text)),
		},
		"POST /api/device-with-credentials": {
			Summary: "Makes or changes a device and its credentials.", Body: deviceWithCredentialsBody{}, Needs: []string{"device", "credentials"},
			Answer: deviceView{}, Query: naming(), Codes: conflict,
		},
		"GET /api/device/:deviceId":      {Summary: "A device.", Answer: deviceView{}},
		"GET /api/device/info/:deviceId": {Summary: "A device, and whether it is connected.", Answer: deviceInfoView{}},
		"DELETE /api/device/:deviceId":   {Summary: "Removes a device and ends its open calls. The history of its calls stays."},
		"GET /api/device/types":          {Summary: "Names of the device profiles.", Answer: []subtypeView{}},
		"GET /api/devices": {
			Summary: "Devices by their ids; what is not there is left out.", Answer: []deviceView{},
			Query: []openapi.Parameter{need("deviceIds", "Ids with commas between them.", text)},
		},
		"GET /api/tenant/device": {
			Summary: "The device with a name.", Answer: deviceView{}, Codes: []int{http.StatusNotFound},
			Query: []openapi.Parameter{need("deviceName", "The name.", openapi.Schema{"type": "string", "minLength": 1})},
		},
		"GET /api/device/:deviceId/credentials": {Summary: "How a device proves who it is.", Answer: credentialsView{}},
		"POST /api/device/credentials": {
			Summary: "Changes the credentials of a device; its session ends.", Body: credentialsBody{}, Needs: []string{"deviceId"}, Answer: credentialsView{}, Codes: conflict,
		},
	}
}

func profileOperations() operations {
	profile := []openapi.Parameter{ask("deviceProfileId", "Only of devices of this profile.", maybeID)}
	return operations{
		"POST /api/deviceProfile": {
			Summary: "Makes a device profile, or changes the one with the id given.", Body: profileBody{}, Needs: []string{"name"}, Answer: profileView{},
			Codes: []int{http.StatusNotFound, http.StatusConflict},
		},
		"GET /api/deviceProfile/:profileId":          {Summary: "A device profile.", Answer: profileView{}},
		"DELETE /api/deviceProfile/:profileId":       {Summary: "Removes a device profile that no device has."},
		"POST /api/deviceProfile/:profileId/default": {Summary: "Makes a profile that of devices made without one.", Answer: profileView{}},
		"GET /api/deviceProfiles":                    {Summary: "Device profiles.", Answer: pageOf[profileView]{}, Query: paging()},
		"GET /api/deviceProfileInfos":                {Summary: "Device profiles, in short.", Answer: pageOf[profileInfoView]{}, Query: paging()},
		"GET /api/deviceProfileInfos/list": {
			Summary: "Device profiles by their ids, in short; what is not there is left out.", Answer: []profileInfoView{},
			Query: []openapi.Parameter{need("deviceProfileIds", "Ids with commas between them.", text)},
		},
		"GET /api/deviceProfileInfo/default":    {Summary: "The profile of devices made without one, in short.", Answer: profileInfoView{}, Codes: []int{http.StatusNotFound}},
		"GET /api/deviceProfileInfo/:profileId": {Summary: "A device profile, in short.", Answer: profileInfoView{}},
		"GET /api/deviceProfile/names": {
			Summary: "Names of the device profiles.", Answer: []namedView{}, Query: []openapi.Parameter{ask("activeOnly", "Only profiles that have devices.", flag)},
		},
		"GET /api/deviceProfile/devices/keys/timeseries": {
			Summary: "Keys of the time series of up to 100 devices.", Answer: []string{}, Query: profile, Codes: []int{http.StatusNotFound},
		},
		"GET /api/deviceProfile/devices/keys/attributes": {
			Summary: "Keys of the attributes of up to 100 devices.", Answer: []string{}, Query: profile, Codes: []int{http.StatusNotFound},
		},
	}
}

func telemetryOperations() operations {
	const at = " /api/plugins/telemetry/DEVICE/:deviceId"
	keys := []openapi.Parameter{
		ask("keys", "Only these keys, with commas between them.", text), ask("key", "One key that has commas in it.", text),
	}
	set := openapi.Operation{Summary: "Sets attributes; a connected device is told of shared ones.", Body: object}
	drop := openapi.Operation{Summary: "Removes attributes; a connected device is told of shared ones.", Query: keys}
	store := openapi.Operation{
		Summary: `Stores latest values: {"key":value}, {"ts":ms,"values":{…}}, or a list of them.`, Body: openapi.Schema{"type": []any{"object", "array"}},
	}
	out := operations{
		"GET" + at + "/keys/attributes":          {Summary: "Keys of all attributes.", Answer: []string{}},
		"GET" + at + "/keys/attributes/:scope":   {Summary: "Keys of the attributes of a scope.", Answer: []string{}},
		"GET" + at + "/values/attributes":        {Summary: "Attributes of all scopes.", Answer: []attributeView{}, Query: keys},
		"GET" + at + "/values/attributes/:scope": {Summary: "Attributes of a scope.", Answer: []attributeView{}, Query: keys},
		"GET" + at + "/keys/timeseries":          {Summary: "Keys of all time series.", Answer: []string{}},
		"GET" + at + "/values/timeseries": {
			Summary: "The latest value of each time series, as text unless useStrictDataTypes is true. History is not kept.", Answer: map[string][]pointView{},
			Query: append([]openapi.Parameter{ask("useStrictDataTypes", "Values as they were sent.", flag)}, keys...),
		},
		"GET" + at + "/values/timeseries/history": {Summary: "Refused: history is not kept."},
		"DELETE" + at + "/timeseries/delete": {Summary: "Removes latest values.", Query: append([]openapi.Parameter{
			ask("deleteAllDataForKeys", "The latest values are all data.", flag), ask("deleteLatest", "false is refused.", flag),
			ask("rewriteLatestIfDeleted", "There is nothing to rewrite them from.", flag),
		}, keys...)},
		"POST" + at + "/timeseries/:scope":      store,
		"POST" + at + "/timeseries/:scope/:ttl": store,
	}
	for _, path := range []string{at + "/attributes/:scope", at + "/:scope", " /api/plugins/telemetry/:deviceId/:scope"} {
		out["POST"+path] = set
	}
	for _, path := range []string{at + "/:scope", " /api/plugins/telemetry/:deviceId/:scope"} {
		out["DELETE"+path] = drop
	}
	return out
}
