package mqtt

import "callchain/transports"

// Reason codes of MQTT 5, section 2.4, that this server sends.
const (
	codeSuccess             byte = 0x00
	codeNoSubscription      byte = 0x11
	codeUnspecified         byte = 0x80
	codeMalformed           byte = 0x81
	codeProtocolError       byte = 0x82
	codeImplementation      byte = 0x83
	codeClientID            byte = 0x85
	codeBadCredentials      byte = 0x86
	codeNotAuthorized       byte = 0x87
	codeUnavailable         byte = 0x88
	codeBusy                byte = 0x89
	codeServerShuttingDown  byte = 0x8B
	codeBadAuthMethod       byte = 0x8C
	codeKeepAlive           byte = 0x8D
	codeTakenOver           byte = 0x8E
	codeFilterInvalid       byte = 0x8F
	codeTopicInvalid        byte = 0x90
	codeTopicAlias          byte = 0x94
	codeQuota               byte = 0x97
	codeAdministrative      byte = 0x98
	codePayloadFormat       byte = 0x99
	codeQoSNotSupported     byte = 0x9B
	refusedVersion311       byte = 0x01 // CONNACK of 3.1.1: unacceptable protocol version
	refusedClientID311      byte = 0x02
	refusedUnavailable311   byte = 0x03
	refusedNotAuthorized311 byte = 0x05
	noCode                  byte = 0xff // close without a DISCONNECT
)

// connack311 is the return code of MQTT 3.1 and 3.1.1 for a reason code of MQTT 5 (ThingsBoard's ReturnCodeResolver).
func connack311(code byte) byte {
	switch code {
	case codeSuccess:
		return 0
	case codeClientID:
		return refusedClientID311
	case codeBadCredentials, codeNotAuthorized:
		return refusedNotAuthorized311
	}
	return refusedUnavailable311
}

// closeCode is the reason code of the DISCONNECT that tells a device why the engine ended its session; after ThingsBoard's
// TransportSessionCloseReason.
func closeCode(r transports.Reason) byte {
	switch r {
	case transports.ReasonTakenOver:
		return codeTakenOver
	case transports.ReasonCredentials, transports.ReasonDeviceDeleted, transports.ReasonDeliveryTimeout, transports.ReasonNodeLost:
		return codeAdministrative
	case transports.ReasonShutdown:
		return codeServerShuttingDown
	case transports.ReasonRefused:
		return codeImplementation
	}
	return codeImplementation
}
